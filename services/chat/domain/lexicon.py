"""Lists of English words that the checks of facts need."""

# fmt: off
NEGATIONS = frozenset({
    "no", "not", "never", "none", "nobody", "nothing", "neither", "nor", "without", "cannot", "can't", "won't", "don't",
    "doesn't", "didn't", "isn't", "aren't", "wasn't", "weren't", "shouldn't", "wouldn't", "couldn't", "hasn't",
    "haven't", "hadn't", "mustn't", "unless", "except", "excluding", "exclude", "excludes", "excluded", "prohibited",
    "prohibits", "forbidden", "forbids", "ineligible", "unable", "denied", "fails", "lacks", "lack", "refuses",
    "unlike",
})
# fmt: on
"""Words that turn what follows into its denial."""

# fmt: off
OPPOSITES = (
    "increase/decrease", "before/after", "minimum/maximum", "more/less", "more/fewer", "higher/lower", "above/below",
    "include/exclude", "allow/prohibit", "allow/forbid", "permit/prohibit", "required/optional", "mandatory/optional",
    "mandatory/voluntary", "always/never", "start/end", "begin/end", "first/last", "accept/reject", "approve/reject",
    "approve/deny", "open/close", "internal/external", "public/private", "weekly/monthly", "monthly/annual",
    "monthly/yearly", "daily/weekly", "daily/monthly", "weekly/annual", "quarterly/annual", "quarterly/monthly",
    "early/late", "oldest/newest", "least/most", "best/worst", "free/paid", "raise/lower", "gain/lose", "buy/sell",
    "add/remove", "enable/disable", "hire/fire", "temporary/permanent", "domestic/international", "employer/employee",
    "single/multiple", "longer/shorter", "larger/smaller", "upper/lower", "morning/evening", "morning/afternoon",
)
# fmt: on
"""Pairs of words of which a statement and its source must not hold one each."""
