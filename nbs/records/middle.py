"""Which map should the input check ask? Shares of changed validation X-rays that it rejects, by map; writes middle.json.

python nbs/records/middle.py FOLDER RUN ...     finished runs of one network each, trained on FOLDER

Read by lesson 09_classifier. Fitted on training X-rays, limited and judged on validation; the test is not read here. (That the last
map was too lenient was first seen on changed X-rays of the test; the choice was made on these.)
"""
import argparse, json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
import numpy as np
from cxr_nb.classifier import ODDITIES, fit_input_check, load_classifier
from cxr_nb.dataset import read_dataset
from cxr_nb.sources import cached_squares
from cxr_nb.recipe import Recipe
from cxr_nb.run import recipe_split

results = Path(__file__).with_name('middle.json')

def rejected(clf, check, squares):
    features = clf.ask(squares)[1]
    return round(float((check.score(features) > check.limit).mean()), 4)

def main(folder, runs):
    table = read_dataset(folder)
    rows = []
    for run in runs:
        clf = replace(load_classifier(run), flip_tta=False)
        last = deepcopy(clf)
        last.members[0][0].middle = None # then the last map is shown in its place
        split = recipe_split(table, Recipe(**clf.about['recipe'])).split
        train, valid = [np.asarray(cached_squares(list(table.path[split == s]), clf.size)[0]) for s in ('train', 'valid')]
        for name, asked in (('middle', clf), ('last', last)):
            check = fit_input_check(asked, train, valid)
            shares = {kind: rejected(asked, check, np.ascontiguousarray(change(valid))) for kind, change in ODDITIES.items()}
            rows.append(dict(run=clf.about['id'], seed=clf.about['seeds'][0], map=name, features=len(check.weights), **shares))
            print(rows[-1], flush=True)
            results.write_text(json.dumps(rows, indent=1) + '\n', encoding='utf-8')

if __name__ == '__main__':
    p = argparse.ArgumentParser()
    p.add_argument('folder')
    p.add_argument('runs', nargs='+')
    a = p.parse_args()
    main(a.folder, a.runs)
