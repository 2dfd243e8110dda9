"""What recorded networks say of another hospital's X-rays; writes external.json from the kept predictions. Read by lessons 11 and 97.

python nbs/records/external.py

The hospital chose nothing: thresholds and temperatures are those of the runs. The predictions are made by record.py --external.
"""
import json
from pathlib import Path
import pandas as pd
from scipy.special import expit
from cxr_nb.confidence import auroc_interval, rate_interval

here = Path(__file__).parent

def _part(table, threshold):
    "AUROC, and rates of the network alone, with intervals by patient"
    patients = table.patient.to_numpy()
    truth = table.truth.to_numpy()
    positive = (table.probability >= threshold).to_numpy()
    figures = dict(AUROC=auroc_interval(table.probability.to_numpy(), truth, patients),
                   sensitivity=rate_interval(positive[truth], patients[truth]),
                   specificity=rate_interval(~positive[~truth], patients[~truth]))
    return dict(xrays=len(table), patients=len(set(patients)), positive=int(truth.sum()), rejected=int((table.call == 'rejected').sum()),
                **{k: [round(float(x), 4) for x in v] for k, v in figures.items()})

def report(record):
    "All X-rays of the hospital, and parts of them"
    table = pd.read_csv(here/'predictions'/record['external'])
    point = record['report']['point']['threshold']
    odds = (table.logit_PNEUMONIA - table.logit_NORMAL)/record['report']['temperature'] # also of those that were rejected
    table = table.assign(truth=table.label == 'PNEUMONIA', probability=expit(odds))
    age = pd.to_numeric(table.age, errors='coerce')
    parts = {'all': table, **{f'view {v}': g for v, g in table.groupby('view')}, **{f'sex {s}': g for s, g in table.groupby('sex')},
             'under 18': table[age < 18], '18 and older': table[age >= 18]}
    return dict(recipe=record['recipe']['name'], seeds=record['seeds'], run=record['id'], threshold=point,
                mean_probability=round(float(table.probability.mean()), 4), share=round(float(table.truth.mean()), 4),
                parts={name: _part(part, point) for name, part in parts.items()})

if __name__ == '__main__':
    records = json.loads((here/'results.json').read_text(encoding='utf-8'))
    found = [report(r) for r in records if r.get('external')]
    (here/'external.json').write_text(json.dumps(found, indent=1) + '\n', encoding='utf-8')
    for f in found: print(f['recipe'], f['seeds'], {k: (v['xrays'], v['AUROC'], v['rejected']) for k, v in f['parts'].items()})
