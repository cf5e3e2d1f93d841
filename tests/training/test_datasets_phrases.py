"""Many phrases looked up at once find what each of them matches alone."""

from hypothesis import given
from hypothesis import strategies as st

from extraction.text import MatchMode, get_analysis
from training.datasets.phrases import Phrases

RULES = get_analysis()
_words = st.text(alphabet="ab 加微信V１.，", max_size=12)


@given(st.lists(st.tuples(_words, st.sampled_from(MatchMode)), max_size=12), _words)
def test_every_phrase_is_found_where_it_matches(wanted, text):
    phrases = Phrases(RULES)
    numbers = {(RULES.key(phrase, mode), mode): phrases.add(phrase, mode) for phrase, mode in wanted}
    expected = {number for (key, mode), number in numbers.items() if RULES.matches(text, key, mode)}
    assert phrases.found_in(text) == expected


def test_equal_phrases_have_one_number():
    phrases = Phrases(RULES)
    assert phrases.add("加微信", MatchMode.PHRASE) == phrases.add("加.微.信", MatchMode.PHRASE) == 0
    assert phrases.add("加微信", MatchMode.CHARACTERS) == 1
    assert phrases.number_of("加 微信", MatchMode.PHRASE) == 0
    assert phrases.number_of("办证", MatchMode.PHRASE) is None
    assert (len(phrases), phrases.key_of(0)) == (2, "加 微 信")


def test_phrase_of_which_nothing_remains_has_no_number():
    assert Phrases(RULES).add("！！", MatchMode.PHRASE) is None
