"""Train a checkpoint further, or from random weights, with Hugging Face's Trainer on Hugging Face's model classes.

    python -m model.finetune --checkpoint adept/persimmon-8b-base --data answers.jsonl --output my-persimmon

The bundled demonstration checkpoints come out of the same code (`model.demo.train`): a folder with random weights is a
checkpoint like any other.
"""
