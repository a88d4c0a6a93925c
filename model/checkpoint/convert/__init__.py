"""From Adept's original release (a Megatron checkpoint) to a folder that our engine and Hugging Face load.

`python -m model.checkpoint.convert --source 8b_chat_model_release.tar --destination persimmon-8b-chat`

One file, one idea: release_files (tar or folder to named stretches of bytes), torch_archive (what torch.save writes),
restricted_pickle (its pickle, with nothing executed), release (the ranks together), hyper_parameters (from the
checkpoint's own args), names (the renaming table), tensor_parallel (ranks joined), shards (safetensors, streamed),
tokenizer_files, config_files, digests, atomic_folder; conversion runs them.

The layout is that of persimmon-ai-labs/adept-inference's code and of the project's notes on it. The real files were
not at hand when this was written: what could differ in them (an absent argument, say) is derived from the tensors'
shapes where they tell, and is otherwise refused with a sentence rather than guessed.
"""
