"""Public corpora and your own text, turned into shards. Everything that downloads lives here."""
