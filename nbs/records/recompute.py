"""Recompute what is recorded in results.json from the kept predictions, by today's code.

python nbs/records/recompute.py

Read by whoever changes lessons 06 to 08: where a rule did not change, every figure must come out equal.
Metrics are taken at the recorded thresholds and temperatures. Temperatures and logits were kept with
four digits, so figures of the probabilities may differ in the last digit; thresholds chosen before 0.2
lie elsewhere in their gap.
"""
import json, re
from pathlib import Path
import numpy as np
from cxr_nb.confidence import call_counts, metrics_table, read_predictions
from cxr_nb.evaluate import OperatingPoint
from cxr_nb.threshold import apply_temperature, choose_threshold, fit_temperature

records = Path(__file__).parent
_COUNTS = {'positive called positive': 'tp', 'positive called negative': 'fn', 'negative called positive': 'fp',
           'negative called negative': 'tn', 'positive refused': 'rejected_positive',
           'positive rejected': 'rejected_positive', 'negative refused': 'rejected_negative',
           'negative rejected': 'rejected_negative'}

def compare(record):
    "Kind of figure, recorded value, value of today"
    report = record['report']
    point = OperatingPoint(**report['point'])
    splits = read_predictions(records/'predictions'/record['predictions'], report['positive'])
    warm = {split: apply_temperature(p, report['temperature']) for split, p in splits.items()}
    for split, points in report['metrics'].items():
        for at, metrics in points.items():
            table = metrics_table(warm[split], OperatingPoint() if at == 'at 0.5' else point)
            for name, row in metrics.items():
                for end in ('value', 'low', 'high'):
                    yield f'{name}, {end}', row[end], table.loc[name, end]
    counts = call_counts(warm['test'], point)
    for name, n in report['test_calls'].items(): yield 'counts of calls', n, counts[_COUNTS[name]]
    try: temperature = fit_temperature(splits['valid'])
    except ValueError: temperature = 1.
    yield 'temperature', report['temperature'], temperature
    if point.split != 'valid': return
    target = re.search(r'sensitivity.* ([0-9.]+)$', point.rule) # as in 'a sensitivity of at least 0.97'
    chosen = choose_threshold(warm['valid'], float(target[1]))
    yield 'threshold (the rule changed in 0.2)', point.threshold, chosen.threshold

def equal(recorded, today):
    if recorded is None or np.isnan(today): return recorded is None and bool(np.isnan(today))
    return abs(recorded - today) < 6e-5 # recorded with five digits, a temperature with four

def main():
    counted = {}
    unequal = []
    for record in json.loads((records/'results.json').read_text(encoding='utf-8')):
        if 'predictions' not in record: continue
        for kind, recorded, today in compare(record):
            same = equal(recorded, today)
            good, n = counted.get(kind, (0, 0))
            counted[kind] = good + same, n + 1
            if not same: unequal.append((record['predictions'], kind, recorded, today))
    for kind, (good, n) in counted.items(): print(f'{kind:40} {good} of {n} equal')
    for file, kind, recorded, today in unequal: print(f'{file}: {kind}: {recorded} is now {today:.6f}')
    rules = [k for k in counted if not k.startswith('threshold')]
    print(f'\n{sum(counted[k][0] for k in rules)} of {sum(counted[k][1] for k in rules)} figures of unchanged '
          'rules are equal.')

if __name__ == '__main__': main()
