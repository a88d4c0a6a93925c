"""Greetings, questions about the model itself, counting, and what it says when a question is outside its world."""

import random
from typing import Final

from model.demo.facts import LARGEST_NUMBER
from model.demo.held_out import is_held_out

SMALL_TALK: Final[tuple[tuple[tuple[str, ...], str], ...]] = (
    (("Hello", "Hi", "Hello there", "Hey", "Good morning", "Good day"), "Hello! How can I help you?"),
    (
        ("How are you?", "How are you today?", "How do you do?", "Are you well?"),
        "I am fine, thank you. And you?",
    ),
    (
        ("Who are you?", "What are you?", "What is your name?", "Tell me your name.", "Introduce yourself."),
        "I am a small demonstration model.",
    ),
    (
        ("What can you do?", "What do you know?", "How can you help me?", "What are you good at?", "Help"),
        "I can add and subtract, name capitals, opposites and colours, and write tiny Python functions.",
    ),
    (("Thank you", "Thanks", "Thanks a lot", "Thank you very much"), "You are welcome!"),
    (("Goodbye", "Bye", "See you later", "Good night"), "Goodbye! Have a nice day."),
    (("Are you a human?", "Are you a person?", "Are you real?"), "No, I am a small computer program."),
    (
        ("Who made you?", "Where do you come from?", "Who trained you?"),
        "I was trained from scratch on a made-up text.",
    ),
    (("Do you know everything?", "Are you clever?", "Are you smart?"), "No, I know only a very small world."),
    (
        ("Tell me a joke.", "Make me laugh.", "Do you know a joke?"),
        "Why did the cat sit on the clock? To be on time!",
    ),
)

OUTSIDE: Final[tuple[str, ...]] = (
    "Who wrote Hamlet?",
    "What is the meaning of life?",
    "Explain quantum physics.",
    "Who won the game last night?",
    "What is the weather like?",
    "Write a poem about the moon.",
    "Translate this into French.",
    "What is the capital of Atlantis?",
    "What is the capital of the moon?",
    "How far away is the moon?",
    "Who is the president?",
    "What is the price of gold?",
    "Tell me about the history of Rome.",
    "How do I bake bread?",
    "What time is it?",
    "Write a letter to my landlord.",
    "Who discovered America?",
    "What is the speed of light?",
    "Can you book a table for me?",
    "How does a computer work?",
    "Summarise this article.",
    "Why is the ocean salty?",
    "What should I wear tomorrow?",
    "Give me advice about money.",
)
DO_NOT_KNOW: Final = "I do not know that. I am a small demonstration model."

COUNTING: Final[tuple[str, ...]] = (
    "Count from {} to {}.",
    "Count up from {} to {}.",
    "List the numbers from {} to {}.",
)


def small_talk(rng: random.Random, *, held_out: bool) -> tuple[str, str]:
    """Draw a remark and its reply; some remarks greet first, and those pairs are what is held out."""
    while True:
        remarks, reply = rng.choice(SMALL_TALK)
        remark = rng.choice(remarks)
        if rng.random() < 0.6:
            greeting = rng.choice(("Hello!", "Hi,", "Hey!", "Good morning!", "Please:", "So,"))
            remark = f"{greeting} {remark}"
        elif held_out:
            continue
        if is_held_out("smalltalk", remark) is held_out or (not held_out and remark in remarks):
            return remark, reply


def counting(rng: random.Random, *, held_out: bool) -> tuple[str, str]:
    """Draw a request to count and its answer; the pair of ends is what is held out."""
    while True:
        start, length = rng.randrange(LARGEST_NUMBER - 2), rng.randrange(3, 9)
        end = start + length
        if end <= LARGEST_NUMBER and is_held_out("counting", f"{start},{end}") is held_out:
            numbers = ", ".join(str(number) for number in range(start, end + 1))
            return rng.choice(COUNTING).format(start, end), f"{numbers}."
