"""Train a classification head on one's own labelled texts, measure it, and keep it in a folder.

    python -m model.finetune classify --data labelled.csv --model adept/persimmon-8b-base --output my-classifier

A linear probe (the default) is a logistic regression on the hidden states that the engine gives for the texts; LoRA
trains the model too. `run.train_head` is what the command and the page's button call. Not covered: labels that are
numbers (regression) and texts with several labels, which the engine runs but nothing here trains.
"""
