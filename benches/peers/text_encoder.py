"""The encoder of a BERT family on 32 texts, by `transformers` and PyTorch: `BertModel` as users have it,
with random weights, and the padding that a batch of unequal lengths has.

Extents are layers, width, heads, width of the feed-forward part, and the tokens of the shortest text;
the longest has 50, and the others are spread evenly between.
"""

import torch
import transformers

ROWS, LONGEST, VOCABULARY = 32, 50, 30522


def lengths(shortest):
    return [shortest + row * (LONGEST - shortest) // (ROWS - 1) for row in range(ROWS)]


def text_encoder(formulation, kind, *extents, dropout=0.0, backward=False, step=False):
    layers, width, heads, inner, shortest = extents
    torch.manual_seed(1)
    config = transformers.BertConfig(
        vocab_size=VOCABULARY, num_hidden_layers=layers, hidden_size=width, num_attention_heads=heads,
        intermediate_size=inner, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout,
    )
    model = transformers.BertModel(config, add_pooling_layer=False).train(backward)
    ids = torch.tensor([[(row * 977 + step * 131) % VOCABULARY for step in range(LONGEST)] for row in range(ROWS)])
    mask = torch.tensor([[int(step < length) for step in range(LONGEST)] for length in lengths(shortest)])

    def forward_pass():
        with torch.no_grad():
            return model(ids, attention_mask=mask).last_hidden_state[:, 0]

    adam = torch.optim.Adam(model.parameters(), lr=1e-5) if step else None

    def both_passes():
        model.zero_grad()
        model(ids, attention_mask=mask).last_hidden_state[:, 0].sum().backward()
        if adam:
            adam.step()

    return both_passes if backward else forward_pass


def text_gradient(formulation, kind, *extents):
    return text_encoder(formulation, kind, *extents, backward=True)


def text_gradient_dropout(formulation, kind, *extents):
    return text_encoder(formulation, kind, *extents, backward=True, dropout=0.1)


def text_step(formulation, kind, *extents):
    return text_encoder(formulation, kind, *extents, backward=True, dropout=0.1, step=True)


OPERATIONS = {
    "text_encoder": text_encoder,
    "text_gradient": text_gradient,
    "text_gradient_dropout": text_gradient_dropout,
    "text_step": text_step,
}
