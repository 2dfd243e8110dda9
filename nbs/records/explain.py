"""The exam of the maps: trains what it needs below runs/ (a finished run is kept), and adds to explain.json.

python nbs/records/explain.py exam              every method, guess and ceiling on phantoms
python nbs/records/explain.py shortcut          a network trained where a letter gives the class away; its picture too
python nbs/records/explain.py sanity            randomised weights and other seeds, on phantoms
python nbs/records/explain.py sanity RUN FOLDER and on real X-rays: RUN is a series of cxr_train, FOLDER its data set

Read by lessons 12 and 23. The method was chosen on validation X-rays of the default phantoms (for version 0.1), and so
is each cut; the X-rays scored are of another draw of patients, by which nothing was chosen.
"""
import argparse, json, shutil, time
from dataclasses import asdict, replace
from pathlib import Path
import matplotlib
matplotlib.use('agg')
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy import ndimage
from sklearn.metrics import roc_auc_score
from cxr_nb.classifier import load_classifier
from cxr_nb.confidence import bootstrap_weights, log_odds, rate_interval
from cxr_nb.dataset import phantom_data, read_dataset
from cxr_nb.film import read_image, read_xrays
from cxr_nb.map_exam import (choose_cut, lung_prior, map_correlation, map_scores, pooled, randomised,
                             score_table, swap_curve)
from cxr_nb.maps import METHODS, attributions, explain, plot_explanation
from cxr_nb.phantom import lesion_masks
from cxr_nb.recipe import RECIPES
from cxr_nb.run import environment, fingerprint, recipe_split, train_run, train_seeds

results = Path(__file__).with_name('explain.json')
runs = Path(__file__).parents[2]/'runs'
recipe = replace(RECIPES['default'], seed=0)
DRAW = dict(n_train=4, val_films=2, n_test=160, seed=21) # of the phantoms that are scored
SWAPPED = 4    # one X-ray in so many is swapped for its twin, pixel by pixel
COMPARED = 16  # X-rays whose maps are compared, each of another patient
SHARES = (0, .05, .1, .2, .3, .5, 1)
CHOSEN = 'HiResCAM, shifted'
SLOW = 'occlusion' # asked of one network, and left out of the other checks
CHECKED = ['Grad-CAM', 'HiResCAM, stride 16', CHOSEN, 'gradient']
GUESSES = ['flat', 'lungs of the average X-ray', 'usual places of lesions']
GRIDS = 4, 8, 16

def marked_data():
    "Phantoms whose letter gives the class away: beside every lesion, and beside no normal chest"
    path = runs/'explain-marked'
    if path.exists(): return path
    part = path.with_suffix('.part')
    shutil.rmtree(part, ignore_errors=True)
    for markers, finding in ((0, 'NORMAL'), (1, 'PNEUMONIA')):
        home = phantom_data(markers=markers)
        for split in ('train', 'val', 'test'): shutil.copytree(home/split/finding, part/split/finding)
    part.rename(path)
    return path

def honest_series():
    run = runs/'phantoms-default'
    if not (run/'metrics.json').exists(): train_seeds(phantom_data(), recipe, 3, run)
    return run

def marked_run():
    run = runs/'explain-marked-default'
    if not (run/'metrics.json').exists(): train_run(marked_data(), recipe, run)
    return run

def members(series): return [load_classifier(f) for f in sorted(series.glob('seed-*'))]

def squares_of(table, size): return np.stack(read_xrays(list(table.path), size))

def ill_of(path): return read_dataset(path).query("split == 'test' and positive").reset_index(drop=True)

def rounded(row): return {k: round(float(v), 4) for k, v in row.items()}

# The exam

class Exam:
    "X-rays with pneumonia and the truth about them, and the rows of the exam as they come"
    def __init__(self, size):
        learnt = recipe_split(read_dataset(phantom_data()), recipe)
        valid = learnt.query("split == 'valid' and positive").iloc[::2]
        train = learnt.query("split == 'train'")
        self.test = ill_of(phantom_data(**DRAW))
        self.masks = lesion_masks(self.test.path, **DRAW)
        self.squares = squares_of(self.test, size)
        erased = phantom_data(lesions=False, **DRAW)
        self.twins = squares_of(self.test.assign(path=[erased/f for f in self.test.file]), size)
        self.valid_masks = lesion_masks(valid.path)
        self.valid_squares = squares_of(valid, size)
        lungs = lung_prior(squares_of(train, size))
        usual = pooled(lesion_masks(train.path[train.positive]), 32).mean(0)
        self.guesses = dict(zip(GUESSES, (np.ones((4, 4)), lungs, usual)))
        self.rows = []
        self.hits = {}

    def add(self, method, network, maps, cut):
        "Hits by pattern of pneumonia; of the first network every measure"
        scores = map_scores(maps, self.masks, cut)
        self.hits[method, network] = scores.hit.to_numpy()
        groups = {'all': self.test} | dict(list(self.test.groupby('group')))
        for group, some in groups.items():
            whole = group == 'all' and network == 'seed 0'
            part = scores.loc[some.index, scores.columns if whole else ['hit']]
            self.add_rows(score_table(part, some.patient), method, network, group)
        print(method, network, f"hit {scores.hit.mean():.2f}", flush=True)

    def add_rows(self, table, method, network='seed 0', group='all'):
        names = dict(method=method, network=network, group=group)
        self.rows += [dict(**names, measure=measure, **rounded(row)) for measure, row in table.iterrows()]

    def add_swaps(self, method, clf, maps):
        "Area under deletion and insertion"
        def area(one, other, order): return np.trapezoid(swap_curve(clf, one, other, order, SHARES), SHARES)
        some = slice(None, None, SWAPPED)
        pairs = list(zip(self.squares[some], self.twins[some], maps[some]))
        areas = pd.DataFrame([dict(deletion=area(a, b, m), insertion=area(b, a, m)) for a, b, m in pairs])
        self.add_rows(score_table(areas, self.test.patient[some]), method)

    def ask(self, method, clfs):
        "One method, of every network and of all together"
        asked = clfs[:1] if method == SLOW else clfs
        few = slice(None, None, 4 if method == SLOW else 1)
        cut = choose_cut(attributions(clfs[0], self.valid_squares[few], method), self.valid_masks[few])
        maps = [attributions(c, self.squares, method) for c in asked]
        for i, m in enumerate(maps): self.add(method, f'seed {i}', m, cut)
        if len(maps) > 1:
            before = [c.temperature*m for c, m in zip(clfs, maps)] # a series has one temperature, for the mean
            self.add(method, 'together', np.mean(before, 0), cut)
        self.add_swaps(method, clfs[0], maps[0])

    def ask_fixed(self, name, maps, valid_maps, clf):
        "What depends on no network"
        self.add(name, 'seed 0', maps, choose_cut(valid_maps, self.valid_masks))
        self.add_swaps(name, clf, maps)

def target_rows(exam):
    "Does the hit rate reach the ceiling's? By network, as a share of it"
    patients = exam.test.patient
    weights = bootstrap_weights(patients)
    top = exam.hits['truth, 8 by 8', 'seed 0']
    rows = []
    for network in ('seed 0', 'seed 1', 'seed 2', 'together'):
        hits = exam.hits[CHOSEN, network]
        low, high = np.percentile(weights@hits/(weights@top), [2.5, 97.5])
        values = dict(hit_rate=hits.mean(), ceiling=top.mean(), ratio=hits.mean()/top.mean(), low=low, high=high)
        rows.append(dict(network=network, **rounded(values)))
    return rows

def measure_exam():
    clfs = members(honest_series())
    exam = Exam(clfs[0].size)
    for method in METHODS: exam.ask(method, clfs)
    for name, guess in exam.guesses.items():
        exam.ask_fixed(name, [guess]*len(exam.masks), [guess]*len(exam.valid_masks), clfs[0])
    for k in GRIDS:
        exam.ask_fixed(f'truth, {k} by {k}', pooled(exam.masks, k), pooled(exam.valid_masks, k), clfs[0])
    return dict(films=len(exam.test), patients=exam.test.patient.nunique(), guesses=GUESSES, exam=exam.rows,
                target=target_rows(exam))

# Sanity

def one_each(table):
    "Some X-rays, each of another patient"
    table = table.drop_duplicates('patient', keep='last')
    return table.iloc[::max(1, len(table)//COMPARED)][:COMPARED]

def sanity_rows(clfs, table, data):
    "Rank correlation of maps with those of randomised weights, of other seeds and of other X-rays"
    squares = squares_of(table, clfs[0].size)
    rows = []
    for method in CHECKED:
        own = attributions(clfs[0], squares, method)
        others = {'other X-rays': np.roll(own, 1, 0), 'other seeds': attributions(clfs[1], squares, method)}
        for share, name in ((.3, '30% of the layers random'), (1, 'all layers random')):
            others[name] = attributions(randomised(clfs[0], share), squares, method)
        for name, maps in others.items():
            values = pd.DataFrame(dict(mean=map_correlation(own, maps)))
            row = score_table(values, table.patient).loc['mean']
            rows.append(dict(data=data, method=method, compared=name, **rounded(row)))
            print(rows[-1], flush=True)
    return rows

def measure_sanity(run, folder):
    rows = sanity_rows(members(honest_series()), one_each(ill_of(phantom_data(**DRAW))), 'phantoms')
    if run: rows += sanity_rows(members(run), one_each(ill_of(folder)), 'real X-rays')
    kept = [r for r in read_results().get('sanity', []) if r['data'] not in {row['data'] for row in rows}]
    return dict(sanity=[*rows, *kept])

# The planted shortcut

def letters_of(marked, bare):
    "True within a centimetre of the letter, which one of two twins has"
    masks = []
    for one, other in zip(marked, bare):
        with_letter, without = [np.asarray(read_image(p), int) for p in (one, other)]
        far = ndimage.distance_transform_edt(np.abs(with_letter - without) < 60)
        masks.append(far <= len(far)/22) # an X-ray is 22 cm high
    return masks

def shortcut_aurocs(cheat, honest, marked, bare):
    "AUROC with the letters beside one class, the other, or none"
    def odds(clf, table): return log_odds(clf.logits(squares_of(table, clf.size)), clf.vocab, clf.positive)
    ill = bare.positive.to_numpy()
    seen = odds(cheat, marked)
    unseen = odds(cheat, bare)
    scores = {'trained with the letter, letters beside lesions alone': np.where(ill, seen, unseen),
              'trained with the letter, no letters': unseen,
              'trained with the letter, letters beside normals alone': np.where(ill, unseen, seen),
              'honest, no letters': odds(honest, bare)}
    return rounded({k: roc_auc_score(ill, s) for k, s in scores.items()})

def moved_rows(networks, marked, bare, erased):
    "By how much a letter moves the log-odds of an X-ray with pneumonia, and by how much its lesion does"
    rows = []
    for name, clf in networks.items():
        def odds(table):
            return log_odds(clf.logits(squares_of(table, clf.size)), clf.vocab, clf.positive)/clf.temperature
        neither = odds(erased)
        alone = odds(bare)
        moved = pd.DataFrame(dict(letter=odds(marked) - alone, lesion=alone - neither))
        rows += [dict(network=name, by=k, **rounded(row)) for k, row in score_table(moved, bare.patient).iterrows()]
    return rows

def caught_rows(networks, table, letters):
    "How often the highest point of a map lies at the letter"
    rows = []
    for method in METHODS:
        if method == SLOW: continue
        for name, clf in networks.items():
            maps = attributions(clf, squares_of(table, clf.size), method)
            rate = rate_interval(map_scores(maps, letters).hit.to_numpy(), table.patient)
            rows.append(dict(method=method, network=name, **rounded(dict(zip(('value', 'low', 'high'), rate)))))
            print(rows[-1], flush=True)
    return rows

def draw_shortcut(networks, table):
    "Maps of both networks over the same X-rays"
    fig, axs = plt.subplots(2, 4, figsize=(16, 5.6), layout='constrained')
    masks = lesion_masks(table.path, **DRAW)
    for line, name in zip(axs, reversed(networks)):
        for ax, path, mask in zip(line, table.path, masks):
            plot_explanation(explain(networks[name], path, CHOSEN), mask, ax=ax)
            ax.set_title(f'{name}\n{ax.get_title()}', fontsize=10)
    fig.savefig(Path(__file__).parents[1]/'images'/'shortcut.png', dpi=65)
    plt.close(fig)

def measure_shortcut():
    cheat = load_classifier(marked_run())
    honest = members(honest_series())[0]
    networks = {'trained with the letter': cheat, 'honest': honest}
    bare, marked = [read_dataset(phantom_data(markers=k, **DRAW)).query("split == 'test'") for k in (0, 1)]
    auroc = shortcut_aurocs(cheat, honest, marked, bare)
    bare, marked = [table[table.positive] for table in (bare, marked)]
    erased = ill_of(phantom_data(markers=0, lesions=False, **DRAW))
    moved = moved_rows(networks, marked, bare, erased)
    caught = caught_rows(networks, marked, letters_of(marked.path, bare.path))
    draw_shortcut(networks, marked.iloc[::len(marked)//4][:4])
    return dict(shortcut=dict(films=len(marked), auroc=auroc, moved=moved, caught=caught))

def read_results(): return json.loads(results.read_text(encoding='utf-8')) if results.is_file() else {}

def main(part, run, folder):
    start = time.time()
    if part == 'exam': new = measure_exam()
    elif part == 'shortcut': new = measure_shortcut()
    else: new = measure_sanity(run, folder)
    scored = dict(DRAW, fingerprint=fingerprint(read_dataset(phantom_data(**DRAW))), swapped_one_in=SWAPPED)
    seeds = [recipe.seed + i for i in range(3)]
    old = read_results()
    seconds = {**old.get('seconds', {}), part: round(time.time() - start)}
    record = old | dict(recipe=asdict(recipe), seeds=seeds, scored=scored, **environment(), **new, seconds=seconds)
    results.write_text(json.dumps(record, indent=1) + '\n', encoding='utf-8')

if __name__ == '__main__':
    p = argparse.ArgumentParser()
    p.add_argument('part', choices=['exam', 'shortcut', 'sanity'])
    p.add_argument('run', nargs='?', type=Path)
    p.add_argument('folder', nargs='?')
    a = p.parse_args()
    if a.run and not a.folder: p.error('name the data set of the series, too')
    main(a.part, a.run, a.folder)
