"""The methods of the table by name: each chooses queries for the reports of a task, in the order of play."""

from collections.abc import Mapping

from django.utils.module_loading import import_string

from training.benchmark import feedback, floors, llm, oracles, seq2seq, statistics, suggester, tagger, zero_shot
from training.benchmark.choice import Choice, Interactive, Method, Reference, play
from training.benchmark.options import Options
from training.benchmark.suites import Answers, Task

METHODS: Mapping[str, Method] = {
    "search": suggester.search,
    "search-one": suggester.search_one,
    "search-by-risk": feedback.search_by_risk,
    "control": suggester.control,
    "tf-idf": statistics.tf_idf,
    "tf-idf-one": statistics.tf_idf_one,
    "yake": statistics.yake,
    "yake-word": statistics.yake_word,
    "keyness": statistics.keyness,
    "train-precision": statistics.train_precision,
    "expected-hits": statistics.expected_hits,
    "longest": floors.longest,
    "broadest": floors.broadest,
    "random": floors.random,
    "lexicon": floors.lexicon,
}
INTERACTIVE: Mapping[str, Interactive] = {
    "search-feedback": feedback.search_feedback,
    "search-risk-order": feedback.search_risk_order,
}
TRAINED: Mapping[str, Method] = {
    "bi-lstm-crf": tagger.bi_lstm_crf,
    "bart": seq2seq.encoder_decoder,
    "zero-shot": zero_shot.zero_shot,
    **llm.LLM,
}
"""Methods that need the learning stack and minutes to hours: they run only when named."""
REFERENCES: Mapping[str, Reference] = {
    "human": oracles.human,
    "oracle": oracles.oracle,
    "oracle-one": oracles.oracle_one,
    "oracle-three": oracles.oracle_three,
}

DEFAULT = (*METHODS, *INTERACTIVE, *REFERENCES)
KNOWN = (*DEFAULT, *TRAINED)


def choose(name: str, task: Task, answers: Answers) -> Choice:
    """Run a method or a reference by name, or a method of your own as `module.function`.

    Only a reference is given the answers; an interactive method is sent the verdicts on what it showed. Raises
    KeyError for another name, ImportError for a function that is not there, MethodUnavailable.
    """
    if name in REFERENCES:
        return REFERENCES[name](task, answers)
    if name in INTERACTIVE:
        return Choice(play(INTERACTIVE[name](task), task, answers.verdicts))
    if "." in name:
        own: Method = import_string(name)
        return own(task)
    return {**METHODS, **TRAINED}[name](task)


def settings_of(name: str, options: Options) -> dict[str, str | int]:
    """What was set for a trained method: rows that differ in it are different rows."""
    settable: dict[str, str | int | None] = {"epochs": options.epochs, "seq2seq": options.seq2seq, "llm": options.llm}
    return {key: value for key, value in settable.items() if value} if name in TRAINED else {}
