"""A web page and an API over a trained model, for one person on one machine.

`player.py` asks the model, `server.py` speaks HTTP, `page.html` is what the browser shows. The
model may be a learner's own: what is asked of it are its `generate` and its tokenizer.
"""
