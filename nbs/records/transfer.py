"""Does a threshold chosen for a sensitivity of .97 keep it on new films? Three ways of choosing, tried on phantoms, read on the recorded runs.

python nbs/records/transfer.py train     a share of the training labels `PNEUMONIA` is planted wrong (normal patients), films of two draws of
                                 patients, three networks each with another share of the patients held out; results in nbs/transfer.json
python nbs/records/transfer.py recorded  what the ways would have called on the test by the recorded predictions of nbs/predictions; they choose nothing

The ways: `all labels` takes every validation film at its label; `doubtful set aside` leaves out the positive ones that cleanlab doubts;
`pooled` chooses one threshold on the validation films of the three networks together, each answered by the network that has not seen it.
"""
import json, os, shutil, sys
from dataclasses import asdict, replace
from pathlib import Path
import numpy as np
import pandas as pd
from cleanlab.filter import find_label_issues
from scipy.special import expit
from cxr_nb.all import (RECIPES, apply_temperature, choose_threshold, environment, find_films, fit_temperature, load_classifier,
                        log_odds, patient_id, phantom_data, read_predictions, train_run)

root, wish = Path(__file__).parents[2], .97
recipe = replace(RECIPES['default'], size=64) # small, so that a dozen networks take minutes
file = root/'nbs'/'records'/'transfer.json'

def mislabelled(draw, share):
    "Phantoms of a draw, of whose training labels PNEUMONIA a share is wrong: normal patients, all films of each"
    clean, path = phantom_data(seed=draw), root/'runs'/f'transfer-data-{draw}-{share}'
    if path.exists(): return path
    part = path.with_suffix('.part')
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(clean, part, copy_function=os.link)
    normal = find_films(clean/'train'/'NORMAL')
    n, moved = share*len(find_films(clean/'train'/'PNEUMONIA'))/(1 - share), 0
    for patient in np.random.default_rng(draw).permutation(sorted({patient_id(f) for f in normal})):
        if moved >= n: break
        for f in (f for f in normal if patient_id(f) == patient):
            (part/'train'/'NORMAL'/f.name).rename(part/'train'/'PNEUMONIA'/f.name)
            moved += 1
    part.rename(path)
    return path

def of_test(clf, path):
    "Log-odds and truth of a clean test"
    films = find_films(path, 'test')
    table = clf.answers(films)
    odds = log_odds(table.filter(like='logit_').values, clf.vocab, clf.positive)
    return odds, np.array([f.parent.name == clf.positive for f in films])

def doubtful(valid):
    "Positive validation films whose label cleanlab doubts by the network's calibrated probabilities"
    probs = np.c_[1 - valid.probs, valid.probs]
    return find_label_issues(valid.truth.astype(int), probs) & valid.truth

def keep(p, of): return replace(p, **{k: getattr(p, k)[of] for k in ('probs', 'truth', 'patients', 'files', 'refused')})

def pool(valids):
    "The validation films of several networks as one set"
    joined = {k: np.concatenate([getattr(v, k) for v in valids]) for k in ('probs', 'truth', 'patients', 'files', 'refused')}
    return replace(valids[0], **joined)

def rates(probs, truth, threshold):
    return dict(sensitivity=round(float((probs >= threshold)[truth].mean()), 5), specificity=round(float((probs < threshold)[~truth].mean()), 5))

def choices(valids):
    "The threshold of each network by each way, from calibrated validation answers"
    aside = [doubtful(v) for v in valids]
    for way, points in {'all labels': [choose_threshold(v, wish) for v in valids],
                        'doubtful set aside': [choose_threshold(keep(v, ~a), wish) for v, a in zip(valids, aside)],
                        'pooled': [choose_threshold(pool(valids), wish)]*len(valids)}.items():
        for i, p in enumerate(points): yield way, i, p.threshold, int(aside[i].sum()) if way == 'doubtful set aside' else 0

def trained():
    rows = []
    for share in (0, .03):
        for draw in (0, 1):
            path, nets = mislabelled(draw, share), []
            for k in range(3):
                out = root/'runs'/f'transfer-{draw}-{share}-{k}'
                if not (out/'metrics.json').exists():
                    shutil.rmtree(out, ignore_errors=True)
                    train_run(path, replace(recipe, seed=k, split_seed=k), out)
                clf = load_classifier(out)
                nets.append((clf, read_predictions(out, clf.positive)['valid']))
            temperatures = [fit_temperature(v) for _, v in nets]
            valids = [apply_temperature(v, t) for (_, v), t in zip(nets, temperatures)]
            chosen = list(choices(valids))
            for shift in (0, 1):
                tests = [of_test(clf, phantom_data(seed=draw, scanner_shift=shift)) for clf, _ in nets]
                for way, i, threshold, n in chosen:
                    odds, truth = tests[i]
                    rows.append(dict(wrong_labels=share, draw=draw, network=i, scanner_shift=shift, way=way, set_aside=n, **rates(expit(odds/temperatures[i]), truth, threshold)))
            print(pd.DataFrame(rows).groupby(['wrong_labels', 'scanner_shift', 'way'])[['set_aside', 'sensitivity', 'specificity']].mean().round(3), flush=True)
    return dict(recipe=asdict(recipe), wish=wish, **environment(), phantoms=rows)

def recorded():
    rows = []
    for f in sorted((root/'nbs'/'records'/'predictions').glob('*.csv')):
        preds = read_predictions(f)
        try: t = fit_temperature(preds['valid'])
        except ValueError: continue # sixteen films, all right: no temperature, and no film to doubt
        valid, test = (apply_temperature(preds[s], t) for s in ('valid', 'test'))
        for way, _, threshold, n in choices([valid]):
            if way != 'pooled': rows.append(dict(run=f.stem, way=way, set_aside=n, **rates(test.probs, test.truth, threshold)))
    return rows

if __name__ == '__main__':
    what = json.loads(file.read_text()) if file.exists() else {}
    if sys.argv[1:] == ['train']: what |= trained()
    elif sys.argv[1:] == ['recorded']: what['recorded'] = recorded()
    else: sys.exit(__doc__)
    file.write_text(json.dumps(what, indent=1, allow_nan=False) + '\n')
