"""What real folders and phantoms say beside their pixels: writes headers.json, which lesson 10 reads.

python nbs/records/headers.py ORIGINALS COPIES NIH     three folders: originals with their headers, the 224-pixel copies, the NIH films
"""
import json, shutil, sys, tempfile, time
from pathlib import Path
import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont
from joblib import Parallel, delayed
from cxr_nb.acquisition import audit_acquisition, read_facts, sharp_marks
from cxr_nb.dataset import read_dataset
from cxr_nb.film import read_xray
from cxr_nb.phantom import write_phantoms

def audited(source):
    "The findings of a folder, and the seconds they took"
    start = time.time()
    table = read_dataset(source)
    def measure(path): return read_facts(path), sharp_marks(read_xray(path, 224))
    facts, marks = zip(*Parallel(2, backend='threading')(delayed(measure)(path) for path in table.path))
    facts = pd.DataFrame(list(facts))
    rows = table.drop(columns=[c for c in facts if c in table]).join(facts)
    found, by_xray = audit_acquisition(rows, np.stack(marks), dict(positive='PNEUMONIA', negative='NORMAL'))
    marked = by_xray[(rows.split == 'test') & ~rows.positive & (by_xray.stamp > 0)]
    return dict(xrays=len(rows), seconds=round(time.time() - start, 1), **found,
                marked_test_normals=dict(zip(marked.file, marked.stamp.tolist())))

def phantoms(seed, **options):
    "A folder of phantoms, on which the caller may plant something"
    folder = Path(tempfile.mkdtemp())/'phantoms'
    kept = dict(n_train=140, n_test=40, films_per_patient=1, copies=0)
    return write_phantoms(folder, seed=seed, **kept | options)

def second_machine(file, quality, stamp):
    with Image.open(file) as im: im = im.convert('L')
    w, h = im.size
    if stamp: ImageDraw.Draw(im).text((.985*w, .985*h), stamp, fill=250, font=ImageFont.load_default(.062*h), anchor='rb')
    im.save(file, quality=quality)

def plant(folder, quality, stamp):
    "Every fourth X-ray of some classes from another machine, in train of ill children alone"
    for place in ('train/PNEUMONIA', 'test/PNEUMONIA', 'test/NORMAL'):
        for file in sorted((folder/place).iterdir())[::4]: second_machine(file, quality, stamp)

def draws(n, planted=None, **options):
    "How many of n draws get a flag of each kind"
    counts = dict(draws=n, facts=0, machines=0, stamps=0)
    for seed in range(n):
        folder = phantoms(100 + seed, **options)
        if planted: plant(folder, **planted)
        found = audited(folder)
        counts['facts'] += any(flag.startswith('What the files say') for flag in found['flags'])
        counts['machines'] += any(m['missing'] for m in found['machines'])
        counts['stamps'] += bool(found['stamps'])
        shutil.rmtree(folder.parent)
    return counts

LABORATORY = { # what is planted, and options of the phantoms
    'clean': (None, dict(train_prior=.5, test_prior=.5, markers=0)),
    'clean, with letters': (None, dict(markers=.9)),
    'another quality planted': (dict(quality=75, stamp=''), {}),
    'a stamp planted': (dict(quality=90, stamp='KV59'), dict(n_train=240, train_prior=.5)),
    'a stamp planted, 35 normals': (dict(quality=90, stamp='KV59'), {}),
}

if __name__ == '__main__':
    record = {name: audited(folder) for name, folder in zip(('originals', 'copies', 'nih'), sys.argv[1:])}
    record['draws'] = {}
    for name, (planted, options) in LABORATORY.items():
        record['draws'][name] = draws(20, planted, **options)
        Path(__file__).with_suffix('.json').write_text(json.dumps(record, indent=1) + '\n', encoding='utf-8')
