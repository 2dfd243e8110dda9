"""The recorded runs: trained below runs/ (a finished run is kept) and added to nbs/results.json.

python nbs/records/record.py                                        the default recipe on the phantoms, a series of three, and what each network says of sets it was not chosen on
python nbs/records/record.py FOLDER                                 on the real films: the walkthrough's recipe with Lite-0, and a series of three each of default and stronger
python nbs/records/record.py FOLDER --recipes stronger --seeds 5    as much of it as is wanted; this is the way on a machine with a GPU, too, which fastai finds by itself
python nbs/records/record.py --intervals                            no training: the intervals of every record once more, from its kept predictions, after lesson 06 has changed

The phantoms' lesions were made as strong as they are while looking at the default set. So each of those networks is also evaluated
on three other draws of patients, with their lesions and with the lesions erased: these numbers had no part in any choice.
"""
import argparse, json
from dataclasses import replace
from pathlib import Path
from sklearn.metrics import roc_auc_score
from cxr_nb.all import (RECIPES, OperatingPoint, add_result, apply_temperature, find_films, load_classifier, log_odds, metrics_table, phantom_data,
                        read_predictions, train_run, train_seeds)

root, fresh = Path(__file__).parents[2], (11, 12, 13)
results = root/'nbs'/'records'/'results.json'

def auroc(clf, lesions, seed):
    "AUROC of a classifier on the test of one draw"
    films = find_films(phantom_data(n_train=4, lesions=lesions, seed=seed), 'test')
    odds = log_odds(clf.answers(films).filter(like='logit_').values, clf.vocab, clf.positive)
    return round(roc_auc_score([f.parent.name == clf.positive for f in films], odds), 6)

def phantom_runs():
    series = train_seeds(phantom_data(), replace(RECIPES['default'], seed=0), 3, root/'runs'/'phantoms-default')
    for folder in (*sorted(series.glob('seed-*')), series):
        clf = load_classifier(folder)
        add_result(folder, results, fresh_draws=fresh, auroc_fresh=[auroc(clf, True, s) for s in fresh], auroc_lesions_erased=[auroc(clf, False, s) for s in fresh])

def real_runs(path, names, n):
    for name in names:
        out = root/'runs'/f'real-{name}'
        if name == 'walkthrough': # takes hours, so one seed; and Lite-0, whose weights need no hub
            if not (out/'metrics.json').exists(): train_run(path, replace(RECIPES[name], arch='tf_efficientnet_lite0'), out)
            folders = [out]
        else: folders = [*sorted(train_seeds(path, RECIPES[name], n, out).glob('seed-*')), out]
        for folder in folders: add_result(folder, results, keep=True)

def intervals():
    "The intervals of today's code, for every metric that needs no more digits than were kept; the values must not move"
    records = json.loads(results.read_text(encoding='utf-8'))
    for r in records:
        if 'predictions' not in r: continue
        report = r['report']
        for split, p in read_predictions(results.parent/'predictions'/r['predictions'], report['positive']).items():
            p = apply_temperature(p, report['temperature'])
            for at, point in (('at 0.5', OperatingPoint()), ('at the operating point', OperatingPoint(**report['point']))):
                was, now = report['metrics'][split][at], metrics_table(p, point).round(5)
                for k in was.keys() - {'Brier score', 'log loss', 'ECE'}: # temperature and logits were kept with four digits
                    assert abs(was[k]['value'] - now.value[k]) < 5e-5, (r['predictions'], split, at, k, was[k], now.value[k])
                    was[k] |= now.loc[k, ['low', 'high']].to_dict()
    results.write_text(json.dumps(records, indent=1) + '\n', encoding='utf-8')

if __name__ == '__main__':
    p = argparse.ArgumentParser()
    p.add_argument('path', nargs='?')
    p.add_argument('--recipes', nargs='+', choices=RECIPES, default=['default', 'stronger', 'walkthrough'])
    p.add_argument('--seeds', type=int, default=3)
    p.add_argument('--intervals', action='store_true')
    a = p.parse_args()
    if a.intervals: intervals()
    else: real_runs(a.path, a.recipes, a.seeds) if a.path else phantom_runs()
