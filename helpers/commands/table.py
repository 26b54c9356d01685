"""The names of the commands, where each is, and a line on it."""

COMMANDS = {
    "judge": ("commands.judge", "what the four signals say about models: a page, text or JSON"),
    "place": ("commands.place", "a model on the map: its relatives, and what it may score"),
    "rank": ("commands.rank", "which of your embeddings knows your labels best"),
    "score": ("commands.score", "log-likelihoods of texts under language models"),
    "embed": ("commands.embed", "vectors of texts by models"),
    "count": ("commands.count", "in how many documents names, and pairs of names, occur"),
    "convert": ("convert", "pickled weights, or an adapter and its base, to safetensors"),
    "models-more": (
        "commands.models_more",
        "download two larger models, which are optional: 660 MB",
    ),
    "data": ("commands.data", "which registered files are available; download the rest"),
    "doctor": ("commands.doctor", "what this machine has, and which commands will work"),
    "book": ("commands.book", "run what changed and build the whole book"),
    "run": ("book.pipeline", "run notebooks, with parameters of your own"),
    "completion": ("commands.completion", "a script for TAB in bash or zsh"),
}
