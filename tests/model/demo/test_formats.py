"""The prompt formats, byte for byte as adept-inference's prompts.md and lm-eval's ARC task write them."""

from model.demo import formats
from model.demo.family import FAMILIES
from model.demo.functions import problems
from model.demo.passages import FillIn


def test_mmlu_prompt() -> None:
    expected = (
        "You are a bot designed to answer questions by choosing between A, B, C, and D. Only one of these answers "
        "from the provided choices is correct. Reply with the letter of the correct answer.\n"
        "Question: What is 1 + 1?\nA: 1\nB: 2\nC: 3\nD: 4\nAnswer: B\n\n"
        "Question: What is 2 + 2?\nA: 1\nB: 2\nC: 3\nD: 4\nAnswer:"
    )
    shot = formats.choice_question("What is 1 + 1?", ("1", "2", "3", "4"))
    asked = formats.choice_question("What is 2 + 2?", ("1", "2", "3", "4"))
    assert f"{formats.MMLU_INSTRUCTION}{shot} B\n\n{asked}" == expected


def test_arc_instruction() -> None:
    assert formats.ARC_INSTRUCTION == (
        "You are a bot designed to answer multiple choice questions. Given a series of options, you answer by "
        "choosing A, B, C, or D. Some examples are below.\n"
    )


def test_arc_with_three_and_five_choices() -> None:
    assert formats.choice_question("Q?", ("x", "y", "z")) == "Question: Q?\nA: x\nB: y\nC: z\nAnswer:"
    assert formats.choice_question("Q?", tuple("vwxyz")).endswith("D: y\nE: z\nAnswer:")


def test_winogrande_prompt_has_two_full_stops() -> None:
    item = FillIn("Anna beat Ben because _ was fast.", "Anna", "Ben", "1")
    assert formats.WINOGRANDE_INSTRUCTION + formats.fill_in_question(item) == (
        "You are a bot that is responsible for answering fill-in-the-blank questions. You are provided with a "
        "sentence and two possible fill-in-the-blank options. Your task is to return 1 or 2 as the answer.\n"
        "Q: Anna beat Ben because _ was fast.. 1 = Anna and 2 = Ben. Answer:"
    )


def test_triviaqa_prompt() -> None:
    assert formats.TRIVIAQA_INSTRUCTION + formats.trivia_question("Capital of Peru?") == (
        "You are a trivia answering bot designed to answer questions. You are given a question and are supposed to "
        "output an answer in 1-3 words. Some examples are below.\nQ: Capital of Peru?\nA:"
    )


def test_humaneval_prompt() -> None:
    problem = problems(held_out=False)[0]
    assert formats.HUMANEVAL_INSTRUCTION == (
        "You are a code-writing bot. Given a function signature, and a docstring, complete the program body. Some "
        "examples are given below.\n"
    )
    assert problem.prompt.startswith("def ")
    assert problem.prompt.endswith('"""\n')
    assert problem.canonical_solution.startswith("    return ")
    assert problem.canonical_solution.endswith("\n")


def test_likelihood_context_is_lm_evals() -> None:
    assert formats.likelihood_context("Capital of Peru?") == "Question: Capital of Peru?\nAnswer:"


def test_chat_prompt() -> None:
    persimmon, mpt, llama = (FAMILIES[key].chat for key in ("persimmon", "mpt", "llama"))
    turns, prefix = [("a", "b")], "Answer in one word.\n\n"
    assert formats.chat_prompt(persimmon, (), "Hi") == "human: Hi\n\nadept:"
    assert (
        formats.chat_prompt(persimmon, turns, "c", prefix=prefix)
        == "Answer in one word.\n\nhuman: a\n\nadept: b\n\nhuman: c\n\nadept:"
    )
    below = (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n"
    )
    assert formats.chat_prompt(mpt, (), "Hi") == f"{below}### Instruction:\nHi\n### Response:\n"
    assert formats.chat_prompt(mpt, turns, "c", prefix=prefix) == (
        f"Answer in one word.\n\n{below}### Instruction:\na\n### Response:\nb\n### Instruction:\nc\n### Response:\n"
    )
    assert formats.chat_prompt(llama, (), "Hi") == "User: Hi\n\nAssistant:"
    assert (
        formats.chat_prompt(llama, turns, "c", prefix=prefix)
        == "Answer in one word.\n\nUser: a\n\nAssistant: b\n\nUser: c\n\nAssistant:"
    )


def test_a_turn_is_what_the_prompt_adds() -> None:
    for family in FAMILIES.values():
        chat = family.chat
        assert formats.chat_turn(chat, "a", first=True) == formats.chat_prompt(chat, (), "a")
        before = formats.chat_turn(chat, "a", first=True) + chat.blank + "b"
        assert before + formats.chat_turn(chat, "c", first=False) == formats.chat_prompt(chat, [("a", "b")], "c")
