"""The models that the recorded server offers (``models.jsonl``): names, presets, and their limits."""

from __future__ import annotations

from collections.abc import Iterable

_OPEN_ASSISTANT = (
    "OA_SFT_Pythia_12B OA_SFT_Pythia_12Bq OA_SFT_Pythia_12B_4 OA_SFT_Pythia_12Bq_4 OA_SFT_Llama_7B OA_SFT_Llama_13B "
    "OA_SFT_Llama_13Bq OA_SFT_Llama_30B OA_SFT_Llama_30Bq OA_SFT_Llama_30B_2 OA_SFT_Llama_30Bq_2 OA_SFT_Llama_30B_5 "
    "OA_SFT_Llama_30Bq_5 OA_SFT_Llama_30B_6 OA_SFT_Llama_30Bq_6 OA_SFT_Llama_30B_7 OA_SFT_Llama_30Bq_7 "
    "OA_SFT_Llama_30B_7e3 OA_RLHF_Llama_30B_2_7k Carper_RLHF_13B_1 Carper_RLHF_13Bq_1 OA_SFT_Llama2_70B_10 "
    "OA_SFT_CodeLlama_13B_10"
)

MODELS = ("_lorem", "distilgpt2", *_OPEN_ASSISTANT.split())
"""Names of the models that were recorded; asking for any other is refused with 422."""

DOCUMENTED = (*MODELS, "OA_SFT_Llama_13B_6")
"""These, and one that the documents of the provider interface ask for and no recording shows."""

_PRESETS: tuple[tuple[str, str, int | None, float | None, float | None, float, float], ...] = (
    ("k50", "Top-k sampling with k=50", 50, 0.95, None, 0.75, 1.2),
    ("k50-Creative", "Top-k sampling with k=50, higher temperature", 50, 0.95, None, 0.85, 1.2),
    ("k50-Precise", "Top-k sampling with k=50, low temperature", 50, 0.95, None, 0.1, 1.2),
    ("k50-Original", "Top-k sampling with k=50, highest temperature", 50, 0.95, None, 0.9, 1.2),
    ("k50-Plugins", "Top-k sampling with k=50 and temperature=0.35", 50, None, None, 0.35, 1.1111111111111112),
    ("nucleus9", "Nucleus sampling with p=0.9", None, 0.9, None, 0.8, 1.2),
    ("typical2", "Typical sampling with p=0.2", None, None, 0.2, 0.8, 1.2),
    ("typical3", "Typical sampling with p=0.3", None, None, 0.3, 0.8, 1.2),
)


def model_config(name: str) -> dict[str, object]:
    """Return a model's entry in ``work_parameters``; the limits are recorded for ``_lorem`` only."""
    most_input, most_total = (128, 256) if name == "_lorem" else (1024, 2048)
    return {
        "model_id": name,
        "max_input_length": most_input,
        "max_total_length": most_total,
        "quantized": "Bq" in name,
    }


def listing(names: Iterable[str]) -> list[dict[str, object]]:
    """Return a list of models as both routes answer it."""
    return [{"name": name, "description": "", "parameter_configs": _presets()} for name in names]


def _presets() -> list[dict[str, object]]:
    return [
        {
            "name": name,
            "description": description,
            "sampling_parameters": {
                "top_k": top_k,
                "top_p": top_p,
                "typical_p": typical_p,
                "temperature": temperature,
                "repetition_penalty": repetition_penalty,
                "max_new_tokens": 1024,
            },
        }
        for name, description, top_k, top_p, typical_p, temperature, repetition_penalty in _PRESETS
    ]
