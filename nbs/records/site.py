"""How many labelled X-rays of a new place are worth it? Simulated from recorded predictions; writes site.json, which lesson 11 reads.

python nbs/records/site.py     the official test, and every other hospital whose predictions record.py has kept in predictions/

From one place n X-rays are drawn, patients whole, 200 times. On them `fit_site` chooses; the rest of the place is what comes later.
`kept` counts the draws that keep the promise on the rest (by patient; `kept_xrays`: by X-ray), `kept_place` in the whole place: the
rest has its own luck, which no promise about a place can hold. `without_promise` is the same for a threshold without confidence.
No X-ray is rejected here: the question is what a threshold can promise.
"""
import json
from dataclasses import replace
from pathlib import Path
import numpy as np
import pandas as pd
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from cxr_nb.confidence import auroc_interval, read_predictions
from cxr_nb.shift import fit_site
from cxr_nb.threshold import apply_temperature, calibration_table, choose_threshold, fit_temperature

here = Path(__file__).parent
SIZES = 20, 50, 100, 200
CONFIDENCE = .9

def places():
    "The official test and each other hospital, calibrated by the validation X-rays of the newest `default` ensemble, and its threshold"
    records = json.loads((here/'results.json').read_text(encoding='utf-8'))
    ensemble = [r for r in records if r['recipe']['name'] == 'default' and len(r['seeds']) > 1][-1]
    file = here/'predictions'/ensemble['predictions']
    splits = read_predictions(file)
    temperature = fit_temperature(splits['valid'])
    point = choose_threshold(apply_temperature(splits['valid'], temperature), sensitivity=.97)
    run = file.name.removeprefix(f"{ensemble['data']['name']}-")
    answers = {'official test': splits['test']}
    for other in sorted((here/'predictions').glob(f'*-{run}')):
        if other != file: answers[other.name.removesuffix(f'-{run}')] = next(iter(read_predictions(other).values()))
    for name, preds in answers.items():
        preds = replace(apply_temperature(preds, temperature), split='site', rejected=None)
        yield name, file.name if name == 'official test' else f'{name}-{run}', preds, point

def draw(preds, n, rng):
    "Whole patients in random order, until there are n X-rays"
    names, whose = np.unique(preds.patients, return_inverse=True)
    order = rng.permutation(len(names))
    count = np.searchsorted(np.bincount(whose)[order].cumsum(), n) + 1
    return np.isin(whose, order[:count])

def rates(preds, threshold):
    "Sensitivity by patient, that of X-rays, and specificity"
    called = preds.probs >= threshold
    ill = pd.Series(called[preds.truth]).groupby(preds.patients[preds.truth]).mean()
    return ill.mean(), called[preds.truth].mean(), (~called)[~preds.truth].mean()

def losses(some, rest):
    "Log loss on the rest: as it is, with a temperature, a shift, or both of the place"
    odds, later = logit(some.probs), logit(rest.probs)
    try: temperature = fit_temperature(some)
    except ValueError: temperature = 1.
    both = LogisticRegression(C=1e6).fit(odds[:, None], some.truth)
    shift = calibration_table(site=some).intercept['site']
    ways = dict(before=later, temperature=later/temperature, shift=later + shift, both=both.decision_function(later[:, None]))
    return {name: log_loss(rest.truth, expit(way)) for name, way in ways.items()}

def plain_threshold(preds, wanted):
    "Chosen without confidence; 0 where only calling all X-rays positive reaches the target"
    try: return choose_threshold(preds, sensitivity=wanted).threshold
    except ValueError: return 0.

def one_draw(preds, n, wanted, rng):
    "What comes of n X-rays; None where one class is missing"
    drawn = draw(preds, n, rng)
    try: some, rest = preds[drawn], preds[~drawn]
    except ValueError: return {}
    row = {f'loss_{k}': v for k, v in losses(some, rest).items()}
    row['plain'], row['plain_xrays'], row['plain_specificity'] = rates(rest, plain_threshold(some, wanted))
    try: shift, point = fit_site(some, wanted, CONFIDENCE)
    except ValueError: return row # no promise
    threshold = expit(logit(point.threshold) - shift)
    row['found'], row['found_xrays'], row['specificity'] = rates(rest, threshold)
    row['found_place'] = rates(preds, threshold)[0]
    return row

def summary(preds, n, wanted, draws=200):
    "200 draws in one row"
    rng = np.random.default_rng(n)
    names = ['found', 'found_xrays', 'found_place', 'specificity']
    table = pd.DataFrame([one_draw(preds, n, wanted, rng) for _ in range(draws)]).reindex(
        columns=['plain', 'plain_xrays', 'plain_specificity', *names, *(f'loss_{k}' for k in ('before', 'temperature', 'shift', 'both'))])
    made = table[table.found.notna()]
    low, middle, high = made.specificity.quantile([.25, .5, .75])
    row = dict(xrays=n, sensitivity=wanted, draws=draws, promised=len(made), kept=int((made.found >= wanted).sum()),
               kept_xrays=int((made.found_xrays >= wanted).sum()), kept_place=int((made.found_place >= wanted).sum()),
               specificity=middle, specificity_low=low, specificity_high=high,
               without_promise=int((table.plain >= wanted).sum()),
               specificity_without=table.plain_specificity.median(), **table.filter(like='loss_').mean())
    return {k: None if pd.isna(v) else round(v, 4) for k, v in row.items()}

def main():
    record = []
    for name, file, preds, point in places():
        found, found_xrays, specificity = rates(preds, point.threshold)
        auroc, low, high = auroc_interval(preds.probs, preds.truth, preds.patients)
        before = dict(threshold=point.threshold, sensitivity=found, sensitivity_xrays=found_xrays, specificity=specificity)
        rows = [summary(preds, n, wanted) for wanted in (.9, .95) for n in SIZES]
        record.append(dict(place=name, predictions=file, xrays=len(preds.truth), patients=len(set(preds.patients)),
                           ill=len(set(preds.patients[preds.truth])), auroc=[auroc, low, high], before=before, draws=rows))
        (here/'site.json').write_text(json.dumps(record, indent=1) + '\n', encoding='utf-8')

if __name__ == '__main__': main()
