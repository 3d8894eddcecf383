"""Results of runs as `docs/design.md` describes them, for the page's tests."""

import numpy as np

from tsjax.evaluate import classification
from tsjax.report import pictures

CLASSES = [str(k) for k in range(10)]
SEEDS = [0, 1, 2]


def metric(values):
  """Mean, deviation and values over seeds."""
  return {
    "mean": float(np.mean(values)),
    "std": float(np.std(values, ddof=1)) if len(values) > 1 else 0.0,
    "values": [float(v) for v in values],
  }


def make_stage(trains, sharpness, *, seeds, teachers=(), parameters, **changes):
  """A stage whose logits are right more often where `sharpness` is larger."""
  random = np.random.default_rng([parameters, round(100 * sharpness)])
  labels = random.integers(0, 10, 360)
  truth = np.eye(10)[labels]
  # 8 looks like 1, 3 and 9.
  truth[labels == 8, 1] += 0.5
  truth[labels == 8, 3] += 0.35
  truth[labels == 3, 9] += 0.4
  results, counts, bins = [], 0, []
  for _ in seeds:
    logits = sharpness * truth + random.normal(size=(360, 10))
    reference = 6 * truth + random.normal(size=(360, 10))
    results.append(classification.metrics(logits, labels, reference=reference))
    bins.append(classification.reliability(logits, labels))
    counts = counts + classification.confusion(labels, logits.argmax(-1), 10)
  step = np.arange(20, 620, 20)
  every = np.arange(100, 700, 100)
  alpha = np.linspace(-1, 0.25, 26)
  test = {m: metric([r[m] for r in results]) for m in results[0]}
  stage = {
    "trains": trains,
    "model": {"kind": "mlp", "parameters": parameters, "bytes": 4 * parameters},
    "steps": 600,
    "seconds": parameters / 4e3,
    "teachers": list(teachers),
    "labels": 0.1,
    "test": test,
    "validation": {"f1": test["f1"], "cross_entropy": test["cross_entropy"]},
    "per_class": {
      name: values.tolist()
      for name, values in classification.per_class(counts).items()
    },
    "confusion": counts.tolist(),
    "chosen": [
      {
        "seed": seed,
        "arm": {"learning_rate": 0.003},
        "validation": {"0.001": 0.9, "0.003": 0.92},
      }
      for seed in seeds
    ],
    "curves": [
      {
        "seed": seed,
        "train": {
          "step": step.tolist(),
          "loss": (
            2.4 * np.exp(-step / 110)
            + 0.3 / sharpness
            + random.normal(size=30) * 0.03
          ).tolist(),
        },
        "validation": {
          "step": every.tolist(),
          "f1": (
            result["f1"] * (1 - 0.7 * np.exp(-every / 90))
            + random.normal(size=6) * 0.006
          ).tolist(),
        },
      }
      for seed, result in zip(seeds, results, strict=True)
    ],
    "line": {
      "alpha": alpha.tolist(),
      "loss": [
        (
          0.2
          + 2.2 * alpha**2
          + random.uniform(0.3, 0.6) * np.exp(-(((alpha + 0.7) / 0.15) ** 2))
        ).tolist()
        for _ in seeds
      ],
    },
    "transfer": None,
    "score": "f1",
    "lower_is_better": False,
    "reliability": {k: v.tolist() for k, v in bins[0].items()},
    "speed": {
      "batch": 256,
      "examples_per_second": 4e9 / parameters,
      "latency": {"median": 1e-8 * parameters, "p95": 2e-8 * parameters},
    },
    "groups": None,
    "targets": None,
    "similarity": None,
    "disagreements": None,
  }
  return stage | changes


def similarity(other="teacher"):
  """Layers of two models of four taps each."""
  names = ["stem/output", "stage_1/output", "stage_2/output", "output"]
  place = np.arange(4)
  cka = np.exp(-0.4 * np.abs(place[:, None] - place)) * 0.96
  return {
    "with": other,
    "seed": 0,
    "examples": 360,
    "rows": names,
    "columns": names,
    "cka": cka.round(4).tolist(),
  }


def disagreements(other="teacher"):
  """Three of one kind, one of the other, the last without a picture."""
  kinds = ["student_wrong"] * 3 + ["teacher_wrong"]
  return {
    "with": other,
    "seed": 0,
    "examples": 360,
    "counts": {"student_wrong": 30, "teacher_wrong": 1, "both_wrong": 2},
    "rows": [
      {
        "row": 10 * k,
        "kind": kind,
        "true": 8,
        "student": 3 if kind == "student_wrong" else 8,
        "teacher": 8 if kind == "student_wrong" else 9,
        "student_confidence": 0.91,
        "teacher_confidence": None if k == 1 else 0.64,
      }
      for k, kind in enumerate(kinds)
    ],
  }


def groups(scale=1.0):
  """Two writers, one of which is read less well."""
  return {
    name: {
      "accuracy": scale * accuracy,
      "f1": scale * accuracy - 0.01,
      "count": count,
      "confusion": (np.eye(10, dtype=int) * count // 10).tolist(),
    }
    for name, accuracy, count in (
      ("writer 1", 0.95, 300),
      ("writer 2", 0.7, 60),
    )
  }


def make_results(seeds=tuple(SEEDS)):
  """A run of teacher, control and student as `docs/design.md` describes it."""
  leaves = [
    {
      "path": f"params/layer_{k}/{part}",
      "source": f"params/layer_{k}/{part}" if k < 2 else "",
      "kind": "sliced" if k < 2 else "missing",
      "parameters": count,
      "note": "",
    }
    for k, counts in enumerate(((2048, 32), (1024, 32), (320, 10)))
    for part, count in zip(("kernel", "bias"), counts, strict=True)
  ]
  return {
    "format": 1,
    "name": "digits",
    "command": "python -m tsjax.main --config=configs/digits.py --seeds=0,1,2",
    "seeds": list(seeds),
    "seconds": 93.7,
    "device": "1 × cpu",
    "date": "2024-05-06",
    "versions": {"jax": "0.10.2", "flax": "0.12.8", "numpy": "2.4.6"},
    "classes": CLASSES,
    "reference": "teacher",
    "loss": "cross_entropy",
    "pictures": {
      str(10 * k): pictures.uri(np.full((8, 8, 1), 40 * k, np.uint8))
      for k in range(3)
    },
    "stages": {
      "teacher": make_stage(
        "large", 6.2, seeds=seeds, parameters=150218, labels=1.0
      ),
      "alone": make_stage("small", 3.2, seeds=seeds, parameters=3466),
      "student": make_stage(
        "small",
        3.9,
        seeds=seeds,
        parameters=3466,
        teachers=["large"],
        similarity=similarity(),
        disagreements=disagreements(),
        transfer={
          "exact": 0,
          "sliced": 3136,
          "unlike": 0,
          "missing": 330,
          "parameters": 3466,
          "leaves": leaves,
        },
      ),
    },
  }


def make_regression(seeds=tuple(SEEDS)):
  """A run that predicts numbers: less is better, and there are no classes."""
  random = np.random.default_rng(0)
  results = make_results(seeds)
  target = random.normal(20, 4, 200)
  for k, (name, stage) in enumerate(results["stages"].items()):
    noise = {"teacher": 0.5, "alone": 2.0, "student": 1.0}[name]
    prediction = target + noise * random.normal(size=200)
    error = [noise**2 * (1 + 0.02 * j) for j in range(len(seeds))]
    scores = {
      "mean_squared_error": metric(error),
      "mean_absolute_error": metric([0.8 * e**0.5 for e in error]),
      "r2": metric([1 - e / 16 for e in error]),
      "reference_error": metric([0.1 * k] * len(seeds)),
    }
    steps = list(range(100, 700, 100))
    results["stages"][name] = stage | {
      "score": "mean_squared_error",
      "lower_is_better": True,
      "test": scores,
      "validation": scores,
      "per_class": None,
      "confusion": None,
      "reliability": None,
      "disagreements": None,
      "targets": {
        "seed": 0,
        "target": target.tolist(),
        "prediction": prediction.tolist(),
      },
      "curves": [
        curve
        | {
          "validation": {
            "step": steps,
            "mean_squared_error": [noise + 9 / (1 + k) for k in range(6)],
          }
        }
        for curve in stage["curves"]
      ],
    }
  return results | {
    "classes": [],
    "loss": "mean_squared_error",
    "pictures": {},
  }


def make_labels(seeds=tuple(SEEDS)):
  """A run of several labels an example: scores by label, and no confusion."""
  results = make_results(seeds)
  for stage in results["stages"].values():
    f1 = stage["test"]["f1"]
    scores = {
      "f1": f1,
      "subset_accuracy": metric([0.8 * v for v in f1["values"]]),
      "mean_average_precision": f1,
      "hamming_loss": metric([0.1 * (1 - v) for v in f1["values"]]),
      "binary_cross_entropy": metric([1 - v for v in f1["values"]]),
    }
    stage |= {
      "test": scores,
      "validation": scores,
      "confusion": None,
      "reliability": None,
      "disagreements": None,
    }
  return results | {"loss": "binary_cross_entropy", "pictures": {}}


def make_many(stages=30, seeds=tuple(SEEDS)):
  """A run of many stages: a teacher, and controls beside taught students."""
  made = make_results(seeds)
  found = {"teacher": made["stages"]["teacher"]}
  for k in range((stages - 1) // 2):
    labels, sharpness = (k + 1) / 40, 2.5 + 0.1 * k
    common = {"seeds": seeds, "parameters": 3466, "labels": labels}
    found[f"alone_{labels:.1%}"] = make_stage("small", sharpness, **common)
    found[f"distilled_and_started_{labels:.1%}"] = make_stage(
      "small",
      sharpness + 0.6,
      teachers=["large"],
      similarity=similarity(),
      disagreements=disagreements(),
      **common,
    )
  return made | {"stages": found}
