"""Mistakes that people make, and what each is told; see test_bad_input.py.

In every text TMP is the folder of the test: it holds `mine.py`, the config
below with the lines of a case before its last, and `tiny.npz`.
"""

CONFIG = """
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from tsjax import config, objectives, optim
from tsjax.config import spec
from tsjax.core import schedules
from tsjax.data import sources, views
from tsjax.distill import transfer
from tsjax.models import mlp, resnet
from tsjax.tasks import classification


class Bare(nn.Module):
  @nn.compact
  def __call__(self, inputs, *, train):
    return nn.Dense(4)(inputs.reshape(inputs.shape[0], -1))


class Named(nn.Module):
  @nn.compact
  def __call__(self, inputs, *, train):
    kernel = nn.with_logical_partitioning(nn.initializers.ones, ("here", None))
    inputs = inputs.reshape(inputs.shape[0], -1)
    return nn.Dense(4, kernel_init=kernel)(inputs)


class Broken(nn.Module):
  @nn.compact
  def __call__(self, inputs, *, train):
    raise RuntimeError(f"I cannot read {inputs.shape}")


def get_config(arg=None):
  a = config.arguments(arg, steps=4, data="tiny", smoke=False)
  c = config.run(name="tiny", seeds=(0, 1), reference="teacher")
  c.task = spec(classification.Classification)
  c.data.source = spec(sources.npz, path="TMP/tiny.npz")
  c.data.batch_size = 16
  c.data.eval_batch_size = 16
  c.data.views.train = spec(views.image)
  c.models.teacher = spec(mlp.MLP, hidden=(8, 8), classes=4)
  c.models.student = spec(mlp.MLP, hidden=(8,), classes=4)
  labels = config.term(spec(objectives.cross_entropy))
  common = dict(steps=a.steps, optimizer=spec(optim.adamw))
  c.stages.teacher = config.stage(
    train="teacher", objective={"labels": labels}, **common
  )
  c.stages.student = config.stage(
    train="student",
    teachers=("teacher",),
    objective={
      "labels": labels,
      "soft": config.term(spec(objectives.soft_targets), temperature=4.0),
    },
    arms={"learning_rate": (0.1, 0.01)},
    **common,
  )
  c.order = ("teacher", "student")
  student, soft = c.stages.student, c.stages.student.objective.soft
  # EDIT
  return c
"""

# Lines of a config -> what the one line must hold.
EDITS = {
  "c.sedes = (0,)": "config.sedes is not known: did you mean 'seeds'",
  "c.model.x = 1": "get_config raised AttributeError",
  "student.lerning_rate = 0.1": (
    "config.stages.student.lerning_rate is not known: did you mean"
    " 'learning_rate'"
  ),
  "config.stage(lerning_rate=0.1)": (
    "TMP/mine.py:62: stage has no key 'lerning_rate': did you mean"
    " 'learning_rate'"
  ),
  "spec(objectives.soft_targets, temprature=2.0)": (
    "soft_targets takes no argument 'temprature': did you mean 'temperature'?"
  ),
  "spec('adamw')": "spec('adamw'): not a function or a class",
  "config.term(objectives.cross_entropy)": (
    "term(cross_entropy): write term(spec(cross_entropy, ...))"
  ),
  "config.term(spec(objectives.soft_targets, temperature=2.0))": (
    "set temperature on the term, not in the loss's spec"
  ),
  "del c.task": "config.task is missing: set it in the config",
  "del student.optimizer": "config.stages.student.optimizer is missing",
  "student.train = 'studnet'": (
    "config.stages.student.train='studnet' is no model: did you mean 'student'"
  ),
  "student.train = ('student', 'student')": (
    "config.stages.student.train=('student', 'student'): name each once"
  ),
  "student.teachers = ('techer',)": (
    "config.stages.student.teachers: 'techer' is no stage: did you mean"
    " 'teacher'?"
  ),
  "student.teachers = ()": (
    "config.stages.student.objective.soft needs a teacher and the stage has 0"
  ),
  "c.stages.teacher.teachers = ('student',)": (
    "config.stages.teacher.teachers: 'student' does not come before it"
  ),
  "c.order = ('teacher', 'studnet')": (
    "config.order names 'studnet', which is no stage: did you mean 'student'?"
  ),
  "c.order = ('teacher',)": "stage 'student' must stand in it once",
  "c.order = ('teacher', 'student', 'teacher')": (
    "stage 'teacher' must stand in it once"
  ),
  "c.reference = 'techer'": (
    "config.reference='techer' is no stage: did you mean 'teacher'?"
  ),
  "c.stages['/up'] = student": "config.stages: '/up' is no name; use letters",
  "c.models['a/b'] = c.models.student": "config.models: 'a/b' is no name",
  "c.stages.report = student; c.order += ('report',)": (
    "config.stages.report: the report is written to the folder of this name"
  ),
  # One name in two places: a stage that teaches, and a model trained here.
  "student.train = ('student', 'teacher'); student.teachers = ('teacher',);"
  " soft.student = 'student'; soft.teacher = 'teacher';"
  " student.objective.labels.student = 'student'": (
    "soft.teacher='teacher' is a model that the stage trains and an earlier"
    " stage too; rename one of them"
  ),
  "student.train = ('student', 'teacher')": (
    "config.stages.student.objective.labels.student is missing: the stage"
    " trains student, teacher"
  ),
  "student.view = 'tran'": (
    "config.stages.student.view='tran' is no view: did you mean 'train'?"
  ),
  "student.teacher_view = 'clean'": (
    "config.stages.student.teacher_view='clean' is no view: known: train"
  ),
  "student.learning_rate = '0.1'": (
    "config.stages.student.learning_rate='0.1': expected float, not str"
  ),
  "student.learning_rate = -0.1": (
    "config.stages.student.learning_rate=-0.1: must not be negative"
  ),
  "student.learning_rate = float('nan')": "learning_rate=nan: must not be neg",
  "student.optimizer = optim.adamw": "optimizer=<function adamw",
  "student.steps = 1e3": "steps=1000.0: expected int or str",
  "student.steps = '3 epoches'": (
    "steps='3 epoches' is not a duration: write 300, '2 epochs'"
  ),
  "student.steps = '50%'": (
    "steps='50%': a stage's length cannot be a percentage"
  ),
  "student.log_every = 'often'": "log_every='often' is not a duration",
  "student.labels = 0.0": "labels=0.0: a share of the labels in (0, 1]",
  "student.labels = 1.5": "labels=1.5: a share of the labels in (0, 1]",
  "student.labels = 0.01": (
    "config.stages.student: labels=0.01 of 72 examples is 1, fewer than the 4"
    " classes; use at least 0.05"
  ),
  "student.examples = 'labeled'": (
    "examples='labeled': did you mean 'labelled'?"
  ),
  "student.accumulate = 3": (
    "accumulate=3 does not divide config.data.batch_size=16"
  ),
  "student.clip = 0.0": "clip=0.0: a positive norm, or None for no clipping",
  "student.arms = {'weight': (1.0,)}": (
    "arms.weight: arms of a stage vary learning_rate"
  ),
  "student.arms = {'learning_rate': 0.1}": (
    "arms.learning_rate=0.1: expected a tuple, like (1, 2)"
  ),
  "student.arms = {'learning_rate': ('0.1',)}": (
    "arms.learning_rate[0]='0.1': expected float, not str"
  ),
  "student.arms = {'learning_rate': (0.1, 0.1)}": (
    "arms.learning_rate=(0.1, 0.1): two are the same"
  ),
  "c.data.validation = 0.0": (
    "config.stages.student chooses on a validation split and there is none:"
    " set config.data.validation"
  ),
  "c.data.validation = 1.0": (
    "config.data: validation=1.0 must be at least 0 and less than 1"
  ),
  "student.choose_by = 'f2'": (
    "config.stages.student.choose_by='f2' is no metric of the task: did you"
    " mean 'f1'"
  ),
  "student.use = 'lst'": "use='lst': did you mean 'last'",
  "student.objective = {}": "config.stages.student.objective is empty",
  "c.seeds = ()": "config.seeds=(): name at least one seed, each once",
  "c.seeds = (0, 0)": "config.seeds=(0, 0): name at least one seed, each once",
  "c.seeds = (0, -1)": "config.seeds: -1 is no seed; take one from 0 to",
  "c.seeds = 3": "config.seeds=3: expected a tuple, like (1, 2)",
  "c.data = 'digits'": (
    "config.data='digits': expected a section; set its keys one by one, like"
    " config.data.source"
  ),
  "c.data.batch_size = 0": "config.data.batch_size=0: must be at least 1",
  "c.data.seed = -1": "config.data.seed: -1 is no seed",
  "student.objective.labels.temperature = 2.0": (
    "labels.temperature=2.0: the loss takes no temperature"
  ),
  "soft.temperature = 0.0": "soft.temperature=0.0: must be above 0",
  "soft.weight = float('nan')": "soft.weight=nan: must be finite",
  "soft.teacher = 'studnet'": "soft.teacher='studnet' does not teach here",
  "soft.on = 'unlabelled'": "soft.on='unlabelled': did you mean 'labelled'",
  "student.objective.labels.target = 'lable'": (
    "config.stages.student: objective.labels.target='lable' is no field of the"
    " data: did you mean 'label'"
  ),
  "soft.student_tap = 'hidden_2/output'": (
    "objective.soft.student_tap: model 'student' offers no tap"
    " 'hidden_2/output': did you mean 'hidden_1/output'?"
  ),
  "soft.teacher_tap = 'hiden_2/output'": (
    "objective.soft.teacher_tap: teacher 'teacher' offers no tap"
    " 'hiden_2/output': did you mean 'hidden_2/output'"
  ),
  # The loss only: 4 logits beside 8 hidden units.
  "soft.teacher_tap = 'hidden_1/output'": "config.stages.student: ",
  "c.models.wide = spec(resnet.ResNet, stage_sizes=(1, 1), width=8,"
  " classes=4); student.train = 'wide'; student.objective.hint ="
  " config.term(spec(objectives.Hint), student_tap='stage_1/output',"
  " teacher_tap='hidden_1/output')": (
    "config.stages.student: Hint: student tap (16, 4, 4, 8) and teacher tap"
    " (16, 8) have not the same axes; choose taps of one kind"
  ),
  # Devices.
  "c.mesh.data = 3; c.mesh.fsdp = 1": (
    "config.mesh={'data': 3, 'fsdp': 1}: does not fill"
  ),
  "c.mesh.rules = 'fdsp'": "config.mesh.rules='fdsp': did you mean 'fsdp'?",
  "c.models.student = spec(Named); c.mesh.rules = 'fsdp'": (
    "config.mesh.rules='fsdp' has no rule for the axis 'here' of a parameter"
  ),
  "c.mesh.strategy = 'pjit'": "config.mesh.strategy='pjit': did you mean 'jit'",
  "c.precision = 'float16'": "config.precision='float16': did you mean",
  "c.models.student = spec(Bare); c.precision = 'bfloat16'": (
    "config.precision: config.models.student has no field `dtype`; add one, or"
    " use float32"
  ),
  # Models, groups, optimizers, starts.
  "c.models.student = spec(dict)": (
    "TMP/mine.py:62: spec(<class 'dict'>) has no signature to check; wrap it in"
    " a function"
  ),
  "c.models.student = spec(views.image)": (
    "config.models.student: tsjax.data.views.image is not a Linen module"
  ),
  "c.models.student.classes = 10": (
    "config.models.student: 10 logits, but the data has 4 classes; set"
    " classes=4"
  ),
  "c.models.student = spec(Broken)": (
    "config.models.student: RuntimeError: I cannot read (16, 4, 4, 1)"
  ),
  "c.models.student = spec(nn.Dense, features=4)": (
    "config.models.student: TypeError: Dense.__call__() got an unexpected"
    " keyword argument 'train'"
  ),
  "c.models.student = spec(resnet.ResNeXt, stage_sizes=(1,), width=8,"
  " cardinality=3, classes=4)": (
    "config.models.student: width=8 cannot be cut into cardinality=3 groups"
  ),
  "student.groups = {'head': config.group(match='.*head/.*')}": (
    "config.stages.student.groups: no group matches parameter"
  ),
  "student.groups = {'z': config.group(), 'a': config.group(match='.*tail')}": (
    "groups.a.match='.*tail' matches no parameter that an earlier group leaves"
  ),
  "student.groups = {'head': config.group(match='(')}": (
    "groups.head.match='(' is not a regular expression"
  ),
  "student.groups = {'all': config.group(rate=-1.0)}": (
    "groups.all.rate=-1.0: must not be negative"
  ),
  "student.optimizer = spec(optax.adamw)": (
    "config.stages.student.optimizer: "
  ),
  "student.optimizer = spec(optim.sgd, momentum='high')": (
    "config.stages.student.optimizer: TypeError: "
  ),
  "student.schedule = spec(optax.constant_schedule)": (
    "config.stages.student.schedule is Timeline("
  ),
  "student.schedule = spec(schedules.cosine, warmup='5 percent')": (
    "config.stages.student.schedule: cosine.warmup='5 percent' is not a"
    " duration"
  ),
  "student.start = spec(transfer.from_stage, stage='techer')": (
    "config.stages.student.start: start.stage='techer' is no earlier stage:"
    " did you mean 'teacher'?"
  ),
  "student.start = spec(transfer.from_stage, only='.*tail')": (
    "config.stages.student.start: start.stage='teacher': no leaf of the student"
    " fits one of the teacher's; see start.rename and start.only"
  ),
  "student.start = spec(transfer.from_stage, rename={'(': 'x'})": (
    "config.stages.student.start: "
  ),
  # Data.
  "c.data.source = spec(sources.npz)": (
    "config.data.source: spec(tsjax.data.sources.npz): missing a required"
    " argument: 'path'; set it in the spec"
  ),
  "c.data.source.path = 'TMP/tyni.npz'": (
    "config.data.source: npz TMP/tyni.npz: there is no such file; did you mean"
    " 'tiny.npz'?"
  ),
  "c.data.source = spec(sources.digits, test=0.001)": (
    "config.data.source: digits: test=0.001 must be a share"
  ),
  "c.data.source = spec(views.image)": (
    "config.data.source: tsjax.data.views.image returned function, which has no"
    " `splits`"
  ),
  "c.data.views.train.crop = 9": (
    "config.data.views.train: crop=(9, 9) is larger than the image, (4, 4)"
  ),
  "c.data.views.train.field = 'imgae'": (
    "config.data.views.train: the view reads field 'imgae', which the example"
    " lacks: did you mean 'image'?"
  ),
  "c.task.label = 'lable'": (
    "config.task reads field 'lable', which the data has not: did you mean"
    " 'label'"
  ),
}

FIT = "fit --workdir=TMP/run --config=TMP/mine.py"
EVALUATE = "evaluate --workdir=TMP/run --config=TMP/mine.py"

# A command, a file and its text -> what the one line must hold.
COMMANDS = {
  "fit --config=TMP/mine.py": (
    "the following arguments are required: --workdir; see `tsjax fit --help`"
  ),
  "fit --workdir=TMP/run": "required: --config; see `tsjax fit --help`",
  "fitt --workdir=TMP/run": "invalid choice: 'fitt'",
  f"{FIT} --confg.name=x": "unrecognized arguments: --confg.name=x",
  "fit --workdir=TMP/run --config=TMP/mien.py": (
    "--config=TMP/mien.py: no such file; did you mean 'TMP/mine.py'?"
  ),
  "fit --workdir=TMP/run --config=TMP": (
    "--config=TMP: is a folder; did you mean 'TMP/mine.py'?"
  ),
  "fit --workdir=TMP/run --config=TMP/tiny.npz": (
    "--config=TMP/tiny.npz: not a Python file"
  ),
  f"{FIT}:dat=x": "config argument 'dat' is not known: did you mean 'data'?",
  f"{FIT}:steps=many": "argument steps='many': expected int, like 4",
  f"{FIT}:steps": "config argument 'steps' needs a value: steps=4",
  f"{FIT} --config.data.batchsize=8": (
    "--config.data.batchsize: config.data.batchsize is not known: did you mean"
    " 'batch_size'"
  ),
  f"{FIT} --config.stages.student=x": (
    "--config.stages.student: only values can be overridden, and this is a"
    " section"
  ),
  f"{FIT} --config.data.batch_size=many": (
    "config.data.batch_size='many': expected int, not str"
  ),
  f"{FIT} --config.data.batch_size 8": (
    "--config.data.batch_size: write --config.data.batch_size=VALUE"
  ),
  f"{FIT} --config.seeds=a,b": "config.seeds[0]='a': expected int, not str",
  f"{FIT} --config.stages.student.clip=much": (
    "config.stages.student.clip='much': expected float or None"
  ),
  "fit --config=TMP/mine.py --workdir=": "--workdir= is empty: name a folder",
  "fit --config=TMP/mine.py --workdir=TMP/mine.py": (
    "--workdir=TMP/mine.py: TMP/mine.py is a file; name another folder"
  ),
  "fit --config=TMP/mine.py --workdir=TMP/mine.py/run": (
    "--workdir=TMP/mine.py/run: TMP/mine.py is a file; name another folder"
  ),
  EVALUATE: (
    "TMP/run/teacher/seed_0/result.json: stage 'teacher' has not ended for seed"
    " 0; run `fit` with the same config and workdir first"
  ),
  f"{EVALUATE} --stage=studnet": ("--stage='studnet': did you mean 'student'?"),
  f"{EVALUATE} --split=tset": "--split='tset': did you mean 'test'",
  "report --workdir=TMP/run": (
    "TMP/run/report/results.json: no such file; `tsjax fit` writes it at the"
    " end of a run"
  ),
  "report --workdir=TMP/run --config.name=x": (
    "--config.name=x: `tsjax report` reads no config"
  ),
}
