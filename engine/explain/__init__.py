"""Why these clusters: rules that tell who is in one, and personas that say what they are like."""
