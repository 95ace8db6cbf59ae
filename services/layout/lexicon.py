"""Lists of English words that the analyser needs."""

# fmt: off
STOP_WORDS = frozenset({
    "a", "an", "the", "this", "that", "these", "those", "there", "here", "it", "its", "it's", "he", "him", "his", "she",
    "her", "hers", "they", "them", "their", "theirs", "we", "us", "our", "ours", "you", "your", "yours", "i", "me",
    "my", "mine", "who", "whom", "whose", "which", "what", "when", "where", "why", "how", "is", "am", "are", "was",
    "were", "be", "been", "being", "do", "does", "did", "doing", "done", "have", "has", "had", "having", "will",
    "would", "shall", "should", "can", "could", "may", "might", "must", "of", "to", "in", "on", "at", "by", "for",
    "with", "from", "as", "into", "onto", "over", "under", "about", "above", "below", "between", "through", "during",
    "before", "after", "up", "down", "out", "off", "again", "further", "then", "once", "and", "or", "but", "nor", "so",
    "yet", "if", "because", "while", "than", "too", "very", "just", "also", "only", "own", "same", "such", "both",
    "each", "few", "more", "most", "other", "some", "any", "all", "no", "not", "let's", "please", "tell", "show",
    "give", "know", "want", "need", "get", "got", "s", "t", "re", "ve", "ll", "d", "m", "one", "ones", "until", "since",
    "within", "whether", "per", "upon", "every", "according", "regarding", "concerning", "considering", "assuming",
    "whenever", "wherever", "along", "among", "across", "against", "towards", "toward", "around", "near", "beside",
    "besides", "despite", "throughout",
})
# fmt: on
"""Words that say little about what a text is about. Case-folded."""

# fmt: off
GENERIC_WORDS = frozenset({
    "accord", "answer", "ask", "base", "call", "case", "certain", "come", "common", "contain", "context", "describe",
    "detail", "document", "documents", "emphasise", "ensure", "exist", "explain", "fact", "find", "follow", "following",
    "general", "go", "help", "important", "include", "includes", "including", "information", "involve", "like", "look",
    "make", "mean", "mention", "need", "note", "number", "offer", "part", "passage", "people", "person", "place",
    "provide", "question", "refer", "relate", "relevant", "say", "see", "several", "specific", "specifically", "state",
    "stated", "take", "thing", "things", "time", "type", "use", "used", "various", "way", "within", "work", "per",
    "via", "makes", "kind", "kinds", "sort", "available", "overall", "key", "main", "example", "etc", "simply",
    "typically", "usually", "generally",
})
# fmt: on
"""Words that any answer may hold whatever it is about; they weigh little for or against support. Case-folded."""
