"""The sizes of the families that generate, one token after another: GPT-2, Llama, Whisper. No torch.

What a layer keeps of a generation are keys and values, (1, heads, tokens, d) each. A head (GPT-2) or a group of query
heads with its one K/V head (Llama) is the smallest thing that can be placed: `head` names its rows and columns,
`columns` those of the feed-forward part, `whole` what the other parts of a layer hold (nodes.models.shares).
The first and the last unit both hold the table of words, which the model uses twice.
"""

from dataclasses import dataclass

from nodes.models.shapes import Cut, OutputClass, Shape, UnitShape, linear, norm


@dataclass(frozen=True, slots=True)
class GptConfig:
    """GPT-2; weight names are those of transformers' GPT2LMHeadModel, whose matrices are (inputs, outputs)."""

    family: str
    vocabulary: int
    positions: int  # the longest text, in tokens
    width: int
    layers: int
    heads: int
    norm_eps: float = 1e-5
    spread: float = 0.02
    tokens: int = 64  # what a profile assumes of a text
    input_dtype: str = "int64"
    answer_class: OutputClass = "feature"  # the next word tells of those before it

    @property
    def hidden(self) -> int:
        return 4 * self.width

    @property
    def movable(self) -> int:
        """How many heads of a layer can be placed one by one."""
        return self.heads

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    @property
    def input_shape(self) -> Shape:
        return (1, -1)

    @property
    def enters(self) -> int:
        """The unit that takes tokens."""
        return 0

    def units(self) -> tuple[UnitShape, ...]:
        width, through, scores = self.width, (1, -1, self.width), (1, self.vocabulary)
        words: dict[str, Shape] = {"transformer.wte.weight": (self.vocabulary, width)}
        embed: dict[str, Shape] = {**words, "transformer.wpe.weight": (self.positions, width)}
        kept = dict.fromkeys(("keys", "values"), (1, self.heads, -1, width // self.heads))
        layers = [self._layer(f"transformer.h.{i}.") for i in range(self.layers)]
        return (
            UnitShape("embed", embed, through, step=through, keeps={}),
            *(UnitShape(f"layer{i}", layer, through, step=through, keeps=kept) for i, layer in enumerate(layers)),
            UnitShape("head", {**norm("transformer.ln_f", width), **words}, scores, step=scores),
        )

    def head(self, layer: int, i: int) -> dict[str, Cut]:
        """Where head `i` of a layer lies: q, k, v, their biases, and o, whose bias is added once behind the sum."""
        at, d, width = f"transformer.h.{layer}.attn.", self.width // self.heads, self.width
        cuts = {"o": Cut(at + "c_proj.weight", 0, i * d, (i + 1) * d)}
        for n, role in enumerate("qkv"):  # three blocks of columns in one matrix
            begin = n * width + i * d
            cuts[role] = Cut(at + "c_attn.weight", 1, begin, begin + d)
            cuts[role + "_bias"] = Cut(at + "c_attn.bias", 0, begin, begin + d)
        return cuts

    def columns(self, layer: int, begin: int, end: int) -> dict[str, Cut]:
        """Where columns begin..end-1 of the hidden width lie; the bias behind `down` is added once behind the sum."""
        at = f"transformer.h.{layer}.mlp."
        return {
            "up": Cut(at + "c_fc.weight", 1, begin, end),
            "up_bias": Cut(at + "c_fc.bias", 0, begin, end),
            "down": Cut(at + "c_proj.weight", 0, begin, end),
        }

    def whole(self, layer: int) -> dict[str, tuple[str, ...]]:
        """The weights that are not cut, by the part of the layer that holds them."""
        at = f"transformer.h.{layer}."
        first, second, proj, up, down = (
            (f"{at}{name}.weight", f"{at}{name}.bias")
            for name in ("ln_1", "ln_2", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
        )
        biases = {"sum": proj[1:], "mlp:sum": down[1:]}
        return {"norm": first, "proj": proj, "mlp": second + up + down, "mlp:norm": second} | biases

    def _layer(self, at: str) -> dict[str, Shape]:
        width, hidden = self.width, self.hidden
        weights = norm(at + "ln_1", width) | norm(at + "ln_2", width)
        for name, inputs, outputs in (
            ("attn.c_attn", width, 3 * width),
            ("attn.c_proj", width, width),
            ("mlp.c_fc", width, hidden),
            ("mlp.c_proj", hidden, width),
        ):
            weights |= {f"{at}{name}.weight": (inputs, outputs), f"{at}{name}.bias": (outputs,)}
        return weights


@dataclass(frozen=True, slots=True)
class LlamaConfig:
    """Llama with grouped K/V heads; weight names are those of transformers' LlamaForCausalLM with tied words."""

    family: str
    vocabulary: int
    positions: int
    width: int
    layers: int
    heads: int  # of queries
    groups: int  # of query heads, one K/V head each
    hidden: int
    pretrained: bool = False  # the weights of the installed package, else made from a seed
    rope_base: float = 1e5
    norm_eps: float = 1e-5
    spread: float = 0.02
    tokens: int = 64
    input_dtype: str = "int64"
    answer_class: OutputClass = "feature"

    @property
    def movable(self) -> int:
        """How many groups of a layer can be placed one by one."""
        return self.groups

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    @property
    def input_shape(self) -> Shape:
        return (1, -1)

    @property
    def enters(self) -> int:
        return 0

    def units(self) -> tuple[UnitShape, ...]:
        width, through, scores = self.width, (1, -1, self.width), (1, self.vocabulary)
        words: dict[str, Shape] = {"model.embed_tokens.weight": (self.vocabulary, width)}
        kept = dict.fromkeys(("keys", "values"), (1, self.groups, -1, self.head_width))
        layers = [self._layer(f"model.layers.{i}.") for i in range(self.layers)]
        return (
            UnitShape("embed", words, through, step=through, keeps={}),
            *(UnitShape(f"layer{i}", layer, through, step=through, keeps=kept) for i, layer in enumerate(layers)),
            UnitShape("head", {"model.norm.weight": (width,), **words}, scores, step=scores),
        )

    def head(self, layer: int, i: int) -> dict[str, Cut]:
        """Where group `i` of a layer lies: q (all its query heads), k, v and o; there are no biases."""
        at, d, queries = f"model.layers.{layer}.self_attn.", self.head_width, self.width // self.groups
        return {
            "q": Cut(at + "q_proj.weight", 0, i * queries, (i + 1) * queries),
            "k": Cut(at + "k_proj.weight", 0, i * d, (i + 1) * d),
            "v": Cut(at + "v_proj.weight", 0, i * d, (i + 1) * d),
            "o": Cut(at + "o_proj.weight", 1, i * queries, (i + 1) * queries),
        }

    def columns(self, layer: int, begin: int, end: int) -> dict[str, Cut]:
        """Where columns begin..end-1 of the hidden width lie."""
        at = f"model.layers.{layer}.mlp."
        return {
            "gate": Cut(at + "gate_proj.weight", 0, begin, end),
            "up": Cut(at + "up_proj.weight", 0, begin, end),
            "down": Cut(at + "down_proj.weight", 1, begin, end),
        }

    def whole(self, layer: int) -> dict[str, tuple[str, ...]]:
        """The weights that are not cut, by the part of the layer that holds them; there are no biases to add."""
        at = f"model.layers.{layer}."
        first, second = (at + "input_layernorm.weight",), (at + "post_attention_layernorm.weight",)
        matrices = tuple(f"{at}mlp.{name}_proj.weight" for name in ("gate", "up", "down"))
        proj = (at + "self_attn.o_proj.weight",)
        return {"norm": first, "proj": proj, "sum": (), "mlp": second + matrices, "mlp:norm": second, "mlp:sum": ()}

    def _layer(self, at: str) -> dict[str, Shape]:
        width, kv = self.width, self.groups * self.head_width
        weights: dict[str, Shape] = {at + "input_layernorm.weight": (width,)}
        for name, outputs in (("q_proj", width), ("k_proj", kv), ("v_proj", kv), ("o_proj", width)):
            weights |= linear(f"{at}self_attn.{name}", width, outputs, bias=False)
        weights[at + "post_attention_layernorm.weight"] = (width,)
        for name in ("gate_proj", "up_proj"):
            weights |= linear(f"{at}mlp.{name}", width, self.hidden, bias=False)
        return weights | linear(at + "mlp.down_proj", self.hidden, width, bias=False)


@dataclass(frozen=True, slots=True)
class WhisperConfig:
    """Sound to text; weight names are those of transformers' WhisperForConditionalGeneration.

    Behind `start`, what the encoder heard and the decoder's tokens cross a cut one behind the other. A decoder layer
    that has seen it once keeps keys and values of what was heard: of the next tokens only their own rows cross.
    """

    family: str
    mels: int  # bands of the spectrogram
    frames: int  # the encoder's positions, two hundredths of a second each
    positions: int  # the longest text, in tokens
    vocabulary: int
    width: int
    layers: int  # of the encoder, and as many of the decoder
    heads: int
    start: tuple[int, ...]  # the tokens that a text begins with
    norm_eps: float = 1e-5
    spread: float = 0.02
    input_dtype: str = "float32"
    answer_class: OutputClass = "feature"  # the next word of what was said

    @property
    def hidden(self) -> int:
        return 4 * self.width

    @property
    def tokens(self) -> int:
        return len(self.start)

    @property
    def input_shape(self) -> Shape:
        return (1, self.mels, 2 * self.frames)

    @property
    def enters(self) -> int:
        return 1 + self.layers

    def units(self) -> tuple[UnitShape, ...]:
        heard, tokens, scores = (1, self.frames, self.width), (1, self.tokens, self.width), (1, self.vocabulary)
        both, parts = (1, self.frames + self.tokens, self.width), {"heard": self.frames, "tokens": self.tokens}
        step = (1, -1, self.width)
        encoder = [self._layer(f"model.encoder.layers.{i}.", ("self_attn",)) for i in range(self.layers)]
        decoder = [self._layer(f"model.decoder.layers.{i}.", ("self_attn", "encoder_attn")) for i in range(self.layers)]
        return (
            UnitShape("embed", self._embed(), heard),
            *(UnitShape(f"encoder{i}", weights, heard) for i, weights in enumerate(encoder)),
            UnitShape("start", self._start(), both, step=step, keeps={}, parts=parts),
            *(
                UnitShape(f"decoder{i}", weights, both, step=step, keeps=self._kept(), parts=parts)
                for i, weights in enumerate(decoder[:-1])
            ),
            UnitShape(f"decoder{self.layers - 1}", decoder[-1], tokens, step=step, keeps=self._kept()),
            UnitShape("head", {**norm("model.decoder.layer_norm", self.width), **self._words()}, scores, step=scores),
        )

    def _words(self) -> dict[str, Shape]:
        return {"model.decoder.embed_tokens.weight": (self.vocabulary, self.width)}

    def _embed(self) -> dict[str, Shape]:
        at, width = "model.encoder.", self.width
        return {
            at + "conv1.weight": (width, self.mels, 3),
            at + "conv1.bias": (width,),
            at + "conv2.weight": (width, width, 3),
            at + "conv2.bias": (width,),
            at + "embed_positions.weight": (self.frames, width),
        }

    def _start(self) -> dict[str, Shape]:
        positions: dict[str, Shape] = {"model.decoder.embed_positions.weight": (self.positions, self.width)}
        return {**norm("model.encoder.layer_norm", self.width), **self._words(), **positions}

    def _kept(self) -> dict[str, Shape]:
        d = self.width // self.heads
        own, heard = (1, self.heads, -1, d), (1, self.heads, self.frames, d)
        return {"keys": own, "values": own, "heard_keys": heard, "heard_values": heard}

    def _layer(self, at: str, attentions: tuple[str, ...]) -> dict[str, Shape]:
        weights: dict[str, Shape] = {}
        for attention in attentions:
            for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
                weights |= linear(f"{at}{attention}.{name}", self.width, self.width, bias=name != "k_proj")
            weights |= norm(f"{at}{attention}_layer_norm", self.width)
        weights |= linear(at + "fc1", self.width, self.hidden)
        weights |= linear(at + "fc2", self.hidden, self.width)
        return weights | norm(at + "final_layer_norm", self.width)
