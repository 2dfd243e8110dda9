"""Does one way lead from a film to a call? Adds what it measures to nbs/one_way.json.

python nbs/records/one_way.py guard RUN             what the guard of a run refuses: its validation and test films, the test films turned and inverted, and no films at all
python nbs/records/one_way.py blind RUN PICTURES    an exam that had no part in making the guard: the validation films turned and inverted, and pictures below PICTURES, a folder for each kind
python nbs/records/one_way.py calls RUN             asks `cxr_predict` for the test folder, and counts again what the model card says
python nbs/records/one_way.py full RUN FOLDER COPIES the films of FOLDER in their original size against squeezed copies of the same names below COPIES

RUN is a folder of cxr_train, and its data set the one it was trained on, named by CXR_DATA (default: the phantoms). The guard's photographs need: pip install scikit-image
"""
import json, subprocess, sys, tempfile
from pathlib import Path
import numpy as np
import pandas as pd
from PIL import Image, ImageDraw
from cxr_nb.all import find_data, find_films, load_classifier, read_image

file = Path(__file__).parents[2]/'nbs'/'one_way.json'

def half(im, left): return im.crop((0, 0, im.width//2, im.height) if left else (im.width - im.width//2, 0, im.width, im.height))

TURNED = {'upside down': lambda im: im.transpose(Image.Transpose.FLIP_TOP_BOTTOM), 'half turn': lambda im: im.rotate(180),
          'quarter turn left': lambda im: im.rotate(90, expand=True), 'quarter turn right': lambda im: im.rotate(270, expand=True),
          'inverted': lambda im: im.point(lambda v: 255 - v), 'left half': lambda im: half(im, True), 'right half': lambda im: half(im, False)}

def pieces(photo, r, n):
    "Random rectangles of a photograph"
    for _ in range(n):
        w, h = [int(s*r.uniform(.4, 1)) for s in photo.size]
        x, y = r.integers(photo.width - w + 1), r.integers(photo.height - h + 1)
        yield photo.crop((x, y, x + w, y + h))

def photographs(r):
    import skimage.data
    from sklearn.datasets import load_sample_images
    names = 'astronaut coffee chelsea rocket camera coins moon clock hubble_deep_field immunohistochemistry retina brick grass gravel cat cell'.split()
    arrays = [*load_sample_images().images, *(getattr(skimage.data, n)() for n in names)]
    return [p for a in arrays for p in pieces(Image.fromarray(a), r, 25)]

def text(r):
    im = Image.new('L', (400, 520), 255)
    for k in range(int(r.integers(5, 40))):
        line = ''.join(chr(c) if r.random() > .15 else ' ' for c in r.integers(33, 122, int(r.integers(10, 60))))
        ImageDraw.Draw(im).text((20, 12*k + 10), line, fill=int(r.integers(0, 90)))
    return im

def non_films(r):
    from sklearn.datasets import load_digits
    digits = [Image.fromarray((d*15.9).astype(np.uint8)).resize((64, 64)) for d in load_digits().images[:400]]
    noise = [Image.fromarray(r.normal(128, r.uniform(5, 60), (160, 220)).clip(0, 255).astype(np.uint8)) for _ in range(400)]
    return dict(photographs=photographs(r), text=[text(r) for _ in range(400)], digits=digits, noise=noise)

def turned(files):
    images = [read_image(f) for f in files]
    return {k: [f(im) for im in images] for k, f in TURNED.items()}

def counted(clf, name, files):
    return dict(group=name, films=len(files), refused=int((clf.predict(files).call == 'refused').sum()))

def refusals(clf, groups):
    "How many images of each group are refused, written and read back"
    rows = []
    for name, images in groups.items():
        with tempfile.TemporaryDirectory() as tmp:
            files = [Path(tmp)/f'{i}.png' for i in range(len(images))]
            for f, im in zip(files, images): im.save(f)
            rows.append(counted(clf, name, files))
    return rows

def merged(clf, rows, what):
    "The rows of this data set in place of its earlier ones"
    data = clf.about['data']['name'].split('-')[0] # the cached phantoms carry a key in their name
    return [*(r for r in record().get(what, []) if r['data'] != data), *(dict(data=data, run=clf.about['id'], **r) for r in rows)]

def guard(run):
    "Counts by group, from files that are written and read back"
    clf, path, r = load_classifier(run), find_data(), np.random.default_rng(0)
    said = pd.read_csv(Path(run)/'predictions.csv', keep_default_na=False)
    rows = [dict(group=name, films=int((said.split == s).sum()), refused=int(((said.split == s) & (said.call == 'refused')).sum()))
            for name, s in (('validation films', 'valid'), ('test films', 'test'))]
    rows += refusals(clf, {**turned(find_films(path, 'test')), **non_films(r)})
    return dict(guard=merged(clf, rows, 'guard'))

def blind(run, pictures):
    "The same for films and pictures at which nobody had looked when the guard was settled"
    clf, path = load_classifier(run), find_data()
    said = pd.read_csv(Path(run)/'predictions.csv', keep_default_na=False).query("split == 'valid'")
    rows = refusals(clf, {f'validation films, {k}': v for k, v in turned([path/'train'/f for f in said.file]).items()})
    for folder in sorted(p for p in Path(pictures).iterdir() if p.is_dir()):
        rows.append(counted(clf, folder.name, sorted(folder.iterdir())))
    return dict(blind=merged(clf, rows, 'blind'))

def decisions(run):
    "Sensitivity, specificity and the counts by the command's answers, beside those of the report"
    clf, path = load_classifier(run), find_data()
    with tempfile.TemporaryDirectory() as tmp:
        out = Path(tmp)/'answers.csv'
        subprocess.run(['cxr_predict', run, path/'test', '--out', out], check=True)
        answers = pd.read_csv(out)
    said = pd.read_csv(Path(run)/'predictions.csv', keep_default_na=False).query("split == 'test'")
    rep = json.loads((Path(run)/'metrics.json').read_text())['report']
    truth = np.where([Path(f).parent.name == clf.positive for f in answers.file], 'positive', 'negative')
    counts = {f'{t} {c}': int(((truth == t) & (answers.call == call)).sum()) for t in ('positive', 'negative')
              for c, call in (('called positive', 'positive'), ('called negative', 'negative'), ('refused', 'refused'))}
    name = f"{clf.about['data']['name'].split('-')[0]}, {len(clf.members)} member(s)"
    row = dict(run=clf.about['id'], films=len(answers), other_calls=int((answers.call.values != said.call.values).sum()), command=counts, card=rep['test_calls'])
    return dict(calls={**record().get('calls', {}), name: row})

def full(run, folder, copies):
    "The same films in two sizes"
    clf, films = load_classifier(run), find_films(folder)
    small = [next(Path(copies).rglob(f'{f.parent.name}/{f.name}')) for f in films]
    a, b = clf.predict(films), clf.predict(small)
    d = (a.probability - b.probability).abs()
    return dict(full_size=dict(run=clf.about['id'], films=len(films), equal_calls=round(float((a.call == b.call).mean()), 4), refused_full_size=int((a.call == 'refused').sum()),
                               refused_copies=int((b.call == 'refused').sum()), median_difference=round(float(d.median()), 5), largest_difference=round(float(d.max()), 4)))

def record(): return json.loads(file.read_text()) if file.exists() else {}

if __name__ == '__main__':
    what, *args = sys.argv[1:]
    found = dict(guard=guard, blind=blind, calls=calls, full=full)[what](*args)
    file.write_text(json.dumps({**record(), **found}, indent=1) + '\n')
    print(json.dumps(found)[:3000])
