"""Contact data in free text, found by rule and replaced by what it was: ‹phone›, ‹email›, ‹url›, ‹handle›.

A query is often the handle itself (design, "Wellness"), so what people typed is masked on its way out. The rules look
at the text as the normaliser reads it, so that `１３８` or `1️⃣3️⃣8️⃣` hides nothing; text without contact data leaves
as it was written. They mask too much rather than too little: seven digits in a row are a phone number, be it a price.

>>> mask("加v信 abc_1234，日结")
'加v信 ‹handle›,日结'
>>> mask("钢印水印齐全")
'钢印水印齐全'
"""

import re
from functools import lru_cache

from extraction.text import get_analysis

MASK_RULES = "contact-1"
"""Names the rule set below; it stands in every manifest and changes whenever a rule does."""

_TOP_LEVEL = (
    "com|net|org|cn|cc|co|io|me|top|xyz|vip|club|info|site|online|shop|app|tv|gg|ru|uk|hk|tw|jp|us|biz|link|pro|live|"
    "store|tech|fun|icu|ltd|ly|im|chat|group|wang"
)
_DIGIT = "[0-9〇零一二三四五六七八九幺两壹贰叁肆伍陆柒捌玖]"
_BETWEEN_DIGITS = r"[\s\-.,·_/()~*\u20e3、。]{0,3}"

# A word that announces an account. Latin ones need a digit or a separator after them: "wechat payment" names nobody.
_HAN_APPS = "微信|薇信|威信|维信|徽信|v信|w信|薇|葳|扣扣|企鹅|球球|飞机号?|电报|纸飞机|小红书|抖音|快手|微博|支付宝"
_LATIN_APPS = (
    "wechat|weixin|wx|vx|v|qq|tg|telegram|whatsapp|line|skype|kik|snap(?:chat)?|signal|ig|insta(?:gram)?|fb|weibo"
)
_SAID = r"\s*(?:号码?|id|账号|帐号)?\s*[::=]?\s*"
_SAID_CLEARLY = r"\s*(?:(?:号码?|id|账号|帐号)\s*[::=]?|[::=])\s*"
_ACCOUNT = r"[a-z0-9][a-z0-9_\-]{3,29}"
_ACCOUNT_WITH_DIGIT = r"(?=[a-z_\-]*[0-9_])[a-z0-9_\-]{4,30}"

_LOOKS_MADE_UP = r"(?=[a-z0-9\-]*_[a-z0-9]|(?:[a-z\-]*[0-9]){3})"
_REST = r"[^\s\u3000-\u9fff]*"

_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"[\w.+\-]{1,64}\s?@\s?[a-z0-9\-]{1,63}(?:\.[a-z0-9\-]{1,63})+"), "‹email›"),
    (re.compile(rf"(?:https?://|www\.){_REST}"), "‹url›"),
    (re.compile(rf"(?<![a-z0-9])(?:[a-z0-9\-]{{1,63}}\.)+(?:{_TOP_LEVEL})(?![a-z0-9])(?:[/?#]{_REST})?"), "‹url›"),
    (re.compile(r"@\s?[\w.\-]{2,30}"), "‹handle›"),
    (re.compile(rf"((?:{_HAN_APPS}){_SAID}){_ACCOUNT}(?![a-z0-9])"), r"\1‹handle›"),
    (re.compile(rf"((?<![a-z])(?:{_LATIN_APPS}){_SAID_CLEARLY}){_ACCOUNT}(?![a-z0-9])"), r"\1‹handle›"),
    (re.compile(rf"((?<![a-z])(?:{_LATIN_APPS})\s*){_ACCOUNT_WITH_DIGIT}(?![a-z0-9])"), r"\1‹handle›"),
    (re.compile(rf"[+(]?{_DIGIT}(?:{_BETWEEN_DIGITS}{_DIGIT}){{6,}}\u20e3?"), "‹phone›"),
    # An account that nothing announces: letters with an underscore or with three digits.
    (re.compile(rf"(?<![a-z0-9_]){_LOOKS_MADE_UP}(?=[0-9_\-]*[a-z])[a-z0-9_\-]{{5,30}}(?![a-z0-9_])"), "‹handle›"),
)  # fmt: skip


def mask(text: str) -> str:
    """The text without contact data; a text that holds none comes back unchanged."""
    return _mask_short(text) if len(text) <= _SHORT else _mask(text)


def _mask(text: str) -> str:
    read = masked = get_analysis().normalise(text)
    for pattern, replacement in _RULES:
        masked = pattern.sub(replacement, masked)
    return text if masked == read else masked


# Queries are short and come back row after row; reasons are long and do not.
_SHORT = 200
_mask_short = lru_cache(maxsize=8192)(_mask)
