"""The recorded runs: trained below runs/ (a finished run is kept), read once on the official test, added to results.json.

python nbs/records/record.py FOLDER                            faster, default and stronger, five seeds each, singles and together
python nbs/records/record.py FOLDER --external NIH             and what each says of another hospital's X-rays, in predictions/
python nbs/records/record.py FOLDER --recipes faster --seeds 1 as much of it as is wanted; so are faster and walkthrough recorded

Results are read by the front page and lesson 97. What is read, written before the reading: of default and stronger the five seeds 42
to 46 and their ensemble, of faster, whose seed changes nothing, and of walkthrough seed 42 alone, on the official test at the threshold
that validation chose and at one half, and (but for walkthrough) on the 523 X-rays of NIH. Whatever comes of it is published. Their input
checks were fitted anew once, after the check learnt more kinds, and the test read again with them; logits, temperatures and thresholds
stayed equal to the bit.
"""
import argparse, json, shutil
from dataclasses import replace
from pathlib import Path
from joblib import parallel_config
from cxr_nb.classifier import load_classifier
from cxr_nb.dataset import read_dataset
from cxr_nb.recipe import RECIPES
from cxr_nb.report import read_record
from cxr_nb.run import train_run, train_seeds

root = Path(__file__).parents[2]

def add_record(run, out, external=None):
    "A run's record and predictions, once"
    record = read_record(run)
    name = '+'.join(map(str, record['seeds']))
    record['predictions'] = f"{record['data']['name']}-{record['recipe']['name']}-{name}-{record['id']}.csv"
    shutil.copy(run/'predictions.csv', out/'predictions'/record['predictions'])
    if external:
        record['external'] = record['predictions'].replace(record['data']['name'], Path(external).name, 1)
        table = read_dataset(external)
        clf = load_classifier(run)
        answers = clf.decide(clf.answers(list(table.path))).drop(columns='file')
        table.drop(columns=['path', 'positive']).join(answers).to_csv(out/'predictions'/record['external'], index=False)
    file = out/'results.json'
    records = json.loads(file.read_text(encoding='utf-8')) if file.is_file() else []
    if record['id'] not in [r['id'] for r in records]:
        file.write_text(json.dumps([*records, record], indent=1) + '\n', encoding='utf-8')

def main(folder, names, n, external, runs, out, jobs):
    (out/'predictions').mkdir(parents=True, exist_ok=True)
    for name in names:
        recipe = replace(RECIPES[name], arch='tf_efficientnet_lite0') # a hub has the weights of the walkthrough's B3
        run = runs/f'real-{name}'
        if n == 1:
            if not (run/'metrics.json').is_file(): train_run(folder, recipe, run)
            add_record(run, out, external)
            continue
        with parallel_config('loky', n_jobs=jobs): train_seeds(folder, recipe, n, run)
        for each in (*sorted(run.glob('seed-*')), run): add_record(each, out, external)

if __name__ == '__main__':
    p = argparse.ArgumentParser()
    p.add_argument('folder')
    p.add_argument('--recipes', nargs='+', choices=RECIPES, default=['faster', 'default', 'stronger'])
    p.add_argument('--seeds', type=int, default=5)
    p.add_argument('--external', help='folder of another hospital')
    p.add_argument('--runs', type=Path, default=root/'runs')
    p.add_argument('--out', type=Path, default=root/'nbs'/'records')
    p.add_argument('--jobs', type=int, default=1, help='seeds trained at a time')
    a = p.parse_args()
    main(a.folder, a.recipes, a.seeds, a.external, a.runs, a.out, a.jobs)
