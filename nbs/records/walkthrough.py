"""Lesson 01, as it is, run once on the real X-rays; its figures go to walkthrough.json beside this script. Lesson 01 reads them.

CXR_DATA=/path/to/chest_xray python nbs/records/walkthrough.py
"""
import json, os
from importlib.metadata import version
from pathlib import Path

here = Path(__file__).parent
os.chdir(here.parent)
if 'CXR_DATA' not in os.environ: raise SystemExit('CXR_DATA must name the folder of the real X-rays.')
os.environ |= {'HF_HUB_OFFLINE': '1', 'MPLBACKEND': 'agg'}

from execnb.nbio import read_nb
from execnb.shell import CaptureShell
from sklearn.metrics import roc_auc_score

lesson = CaptureShell()
for cell in read_nb('01_walkthrough.ipynb').cells:
    if cell.cell_type != 'code': continue
    if 'records/walkthrough.json' in cell.source: break # the cell that reads what this script writes
    lesson.run(cell.source)
    if lesson.exc: raise lesson.exc

names = lesson.user_ns
splits = dict(train=names['dls'].train, val=names['dls'].valid, test=names['test_dl'])
record = dict(
    data=names['path'].name,
    images={name: len(batches.dataset) for name, batches in splits.items()},
    recipe={name: names[name] for name in ('arch', 'size', 'bs', 'epochs', 'lr', 'wd', 'seed')},
    history=[list(values) for values in names['history']], # per epoch: training loss, validation loss, accuracy
    suggested=dict(names['suggested']._asdict()),
    threshold=.5,
    auroc=roc_auc_score(names['ill'], names['preds'][:, names['positive']]),
    threads=names['torch'].get_num_threads(),
    versions={name: version(name) for name in ('fastai', 'timm', 'torch', 'torchvision', 'scikit-learn')},
    **{name: names[name] for name in ('tp', 'fp', 'fn', 'tn')})
(here/'walkthrough.json').write_text(json.dumps(record, indent=1) + '\n')
