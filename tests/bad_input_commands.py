"""Mistakes with teachers, caches, studies, sweeps and reports, and their line.

A case is an edit of `bad_input_cases.CONFIG`, or a command.
"""

from tests import bad_input_cases as cases

# An edit of the config -> what the one line must hold.
EDITS = {
  "student.ensembles = {'all': config.ensemble()}": (
    "config.stages.student.ensembles.all.members is missing: set it in the"
    " config"
  ),
  "student.ensembles = {'all': config.ensemble(members=())}": (
    "config.stages.student.ensembles.all.members=(): name earlier stages"
  ),
  "student.ensembles = {'all': config.ensemble(members=('techer',))}": (
    "config.stages.student.ensembles.all.members: 'techer' is no stage: did you"
    " mean 'teacher'?"
  ),
  "student.ensembles = {'all': config.ensemble(members=('student',))}": (
    "ensembles.all.members: 'student' does not come before it"
  ),
  "student.ensembles = {'all': config.ensemble(members=('teacher',)*2)}": (
    "ensembles.all.members=('teacher', 'teacher'): name each once"
  ),
  "student.ensembles = {'all': config.ensemble(members=('teacher',),"
  " mean='median')}": "ensembles.all.mean='median': known: logits, probabil",
  "student.ensembles = {'all': config.ensemble(members=('teacher',),"
  " temperature=0.0)}": "ensembles.all.temperature=0.0: must be above 0",
  "student.ensembles = {'all': config.ensemble(members=('teacher',),"
  " weights=(1.0, 2.0))}": "weights=(1.0, 2.0): 2 for 1 members; give one for",
  "student.ensembles = {'all': config.ensemble(members=('teacher',),"
  " weights=(0.0,))}": "weights=(0.0,): must not be negative, finite, and not",
  "student.ensembles = {'teacher': config.ensemble(members=('teacher',))}": (
    "ensembles: 'teacher' is another teacher's name already (teachers); rename"
  ),
  "student.ensembles = {'average': config.ensemble(members=('teacher',))}": (
    "ensembles: 'average' is another teacher's name already (the moving"
  ),
  "student.ensembles = {'all': config.ensemble(members=('teacher',))}": (
    "config.stages.student.objective.soft needs a teacher and the stage has 2:"
    " set config.stages.student.objective.soft.teacher"
  ),
  "student.cached = {'big one': 'TMP/outputs'}": (
    "config.stages.student.cached: 'big one' is no name; use letters"
  ),
  "student.cached = {'big': 3}": "config.stages.student.cached.big=3: expected",
  "student.teachers, student.cached = (), {'big': 'TMP/outputs'}": (
    "config.stages.student.cached.big: TMP/outputs: holds no cache, for"
    " header.json is not there; write one with `tsjax cache`"
  ),
  "student.teachers, student.cached = (), {'big': 'TMP/outputs'};"
  " student.objective.soft.teacher_tap = 'hidden'": (
    "teacher_tap='hidden': a cache holds outputs, and only \"output\" can be"
    " read of 'big'; name a stage as teacher"
  ),
  "student.teachers = ('teacher.teacher',)": (
    "config.stages.student.teachers: 'teacher.teacher' is no model of an"
    " earlier stage: did you mean 'teacher'?"
  ),
  "student.train = ('student', 'teacher')": (
    "config.stages.student.objective.labels.student is missing: the stage"
    " trains student, teacher"
  ),
  "c.writers = ('tensorbord',)": (
    "config.writers: 'tensorbord': known: events, wandb"
  ),
  "c.writers = 'events'": "config.writers='events': expected a tuple",
  "c.reference = 'studnet'": (
    "config.reference='studnet' is no stage: did you mean 'student'?"
  ),
  "student.choose_by = 'pearson'": (
    "config.stages.student.choose_by='pearson' is no metric of the task"
  ),
}

_SWEEP = "sweep --workdir=TMP/run --config=TMP/mine.py"
_CACHE = "cache --config=TMP/mine.py"
_WEIGHT = "config.stages.student.objective.soft.weight"

# A command -> what the one line must hold.
COMMANDS = {
  "report": "report: name a run's folder, --workdir=DIR, or several to compare",
  "report TMP/a": "TMP/a/report/results.json: no such file; `tsjax fit` writes",
  "report TMP/a TMP/b": "TMP/a: no such folder; name the folder of a run",
  "report TMP/mine.py TMP": "TMP/mine.py: is a file; name the folder of a run",
  "report TMP --out=TMP/page": "one run's page is written in its own folder",
  f"{cases.FIT} --label-study=2": (
    "--label-study: 2 is no share of the labels; take one above 0 and at most"
  ),
  f"{cases.FIT} --label-study=some": (
    "--label-study=some: 'some' is no number; write --label-study=0.01,0.1,1"
  ),
  f"{cases.FIT} --label-study=0.1,week=train": "'week' is not known",
  _SWEEP: (
    "TMP/mine.py defines no function sweep(): write one, or give --sweep"
    " config.KEY=VALUE,VALUE"
  ),
  f"{_SWEEP} --sweep config.seeds": (
    "--sweep config.seeds: write --sweep config.KEY=VALUE,VALUE,..."
  ),
  f"{_SWEEP} --sweep config.sed=1,2": (
    "--sweep config.sed: config.sed is not known: did you mean 'seeds'?"
  ),
  f"{_SWEEP} --sweep {_WEIGHT}=1,1": f"--sweep {_WEIGHT}: '1' comes twice",
  f"{_SWEEP} --sweep {_WEIGHT}=a,b": f"point weight=a: {_WEIGHT}='a': expected",
  f"{_SWEEP} --sweep {_WEIGHT}=1,2 --stage=studnet": (
    "--stage='studnet': did you mean 'student'?"
  ),
  _CACHE: (
    "cache: name what to write, one of --stage=NAME, --from=FILE and"
    " --keys=FILE"
  ),
  f"{_CACHE} --stage=teacher --keys=TMP/k.npz": "not --stage and --keys",
  f"{_CACHE} --stage=teacher": (
    "cache --stage: --workdir=DIR is missing; name a folder"
  ),
  f"{_CACHE} --stage=teacher --workdir=TMP/run --out=TMP/outputs": (
    "TMP/run/teacher/seed_0/result.json: stage 'teacher' has not ended for seed"
  ),
  f"{_CACHE} --stage=techer --workdir=TMP/run --out=TMP/outputs": (
    "--stage='techer': did you mean 'teacher'?"
  ),
  f"{_CACHE} --from=TMP/x.npz --out=TMP/outputs": (
    "--from=TMP/x.npz: there is no such file"
  ),
  f"{_CACHE} --from=TMP/mine.py --out=TMP/outputs": "TMP/mine.py",
  f"{_CACHE} --keys=TMP/keys.txt": "is neither .npz nor .parquet; name a file",
  f"{_CACHE} --keys=TMP/keys.npz --split=tset": "--split='tset'",
  "list nothing": "tsjax list nothing: known: configs, models, objectives",
  "list": "the following arguments are required: kind; see `tsjax list --help`",
  "explain --config=TMP/mine.py --workdir=TMP/run": (
    "unrecognized arguments: --workdir=TMP/run"
  ),
}
