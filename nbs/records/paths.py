"""What each recorded network does by the path on which an X-ray came to its file; writes paths.json, which lessons 11 and 97 read.

python nbs/records/paths.py HEADERS     a table of the original files: file, width, height, and for a part of train jpeg_table

Path 8: width and height of the original are both multiples of 8. Nothing is chosen here; the recorded calls are sorted.
"""
import json, sys
from pathlib import Path
import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score
from cxr_nb.confidence import auroc_by_strata, read_predictions, strata_table
from cxr_nb.evaluate import OperatingPoint
from cxr_nb.report import json_rows
from cxr_nb.threshold import apply_temperature

here = Path(__file__).parent
_RATES = ['sensitivity', 'specificity', 'AUROC']

def read_headers(file):
    "The path of each original, by its name"
    table = pd.read_csv(file)
    table.index = [Path(f).name for f in table.file]
    table['path'] = np.where((table.width % 8 == 0) & (table.height % 8 == 0), 'path 8', 'other path')
    return table

def path_of(files, headers):
    "The path of each file, NaN where its header is not known"
    return headers.path.reindex([Path(f).name for f in files]).to_numpy()

def of_train(headers):
    "What the headers of train say: JPEG table by class, and paths by class"
    train = headers[headers.split == 'train'].reset_index()
    counts = pd.crosstab(train.jpeg_table, train.label)
    bits = 8*train.bytes/train.width/train.height
    auroc = roc_auc_score(train.label == 'PNEUMONIA', bits)
    return dict(xrays=len(train), tables=counts.sort_values('PNEUMONIA', ascending=False).head(6).to_dict('index'),
                auroc_of_bits_per_pixel=max(auroc, 1 - auroc),
                paths=pd.crosstab(headers.path, [headers.split, headers.label]).T.reset_index().to_dict('records'))

def one_run(record, headers):
    "A recorded run by path: its calls on the test at its own threshold, and what validation knows of each path"
    splits = read_predictions(here/'predictions'/record['predictions'])
    report = record['report']
    test = apply_temperature(splits['test'], report['temperature'])
    test.table['path'] = path_of(test.files, headers)
    valid = splits['valid']
    valid.table['path'] = pd.Series(path_of(valid.files, headers)).fillna('unknown')
    seen = valid.table[valid.table.path != 'unknown']
    point = OperatingPoint(report['point']['threshold'])
    strata = strata_table(test, ['path'], point, known=dict(validation=valid))
    return dict(recipe=record['recipe']['name'], seeds=record['seeds'], id=record['id'], rates=json_rows(strata.loc['path'].loc[(slice(None), _RATES), :]),
                pairs=json_rows(auroc_by_strata(test, 'path')), valid=pd.crosstab(seen.path, seen.label).to_dict('index'))

def main(file):
    headers = read_headers(file)
    records = [r for r in json.loads((here/'results.json').read_text(encoding='utf-8')) if r['data']['name'] == 'chest_xray']
    runs = [one_run(r, headers) for r in records]
    normals = headers[(headers.split == 'test') & (headers.label == 'NORMAL') & (headers.path == 'path 8')]
    result = dict(train=of_train(headers), path_8_test_normals=sorted(normals.index), runs=runs)
    (here/'paths.json').write_text(json.dumps(result, indent=1) + '\n', encoding='utf-8')

if __name__ == '__main__': main(sys.argv[1])
