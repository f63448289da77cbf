"""One person: the rule that holds for them, and the least change that would move them."""
