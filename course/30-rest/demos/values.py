import dataclasses

from race import MODEL

from gpt.modern import Modern, ModernConfig, value_table

for layers in (2, 4, 12):
    tables = [value_table(index, layers) for index in range(layers)]
    print(f"{layers} layers read: {' '.join('-' if t is None else str(t) for t in tables)}")
for on in (False, True):
    model = Modern(dataclasses.replace(MODEL, layers=4), ModernConfig(value_embeddings=on))
    products = sum(p.numel() for name, p in model.named_parameters() if name.startswith("blocks"))
    print(
        f"value_embeddings = {on}: {model.parameter_count():,} parameters, {products:,} in blocks"
    )
