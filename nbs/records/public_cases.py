"""52 public reports of X-rays and data sets that software stumbled over, tried here; writes public_cases.json beside itself.

python nbs/records/public_cases.py RUN                  asks today's code; the column of before is kept as it was
python nbs/records/public_cases.py RUN --before FOLDER  asks the code in FOLDER, too: git worktree add FOLDER 3f650f2
python nbs/records/public_cases.py RUN --only 7 15      asks again about some cases

RUN is a folder of cxr_train on the phantoms. public_files.py makes the files; public_cases.csv says where each case was
reported, and what of it is not here or stays short. Notebook 92_film reads the record.
"""
import argparse, csv, io, json, os, re, subprocess, sys, sysconfig, tempfile, warnings
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock
import numpy as np
import pandas as pd

class Today:
    "Ask as a user does"
    def __init__(self, run):
        from cxr_nb.classifier import load_classifier
        from cxr_nb.commands import main
        from cxr_nb.dataset import check_dataset, hold_out, read_dataset
        from cxr_nb.film import read_image
        from cxr_nb.sources import find_xrays
        self.run, self.main, self.read_image = run.absolute(), main, read_image
        self.clf = load_classifier(run)
        self.read_dataset, self.hold_out, self.check_dataset = read_dataset, hold_out, check_dataset
        self.find = lambda folder: find_xrays(folder)[0]

    def read(self, file, true, **options):
        "Largest error, grey levels"
        return int(np.abs(np.asarray(self.read_image(file, **options)).astype(int) - np.load(true)).max())

    def judge(self, file):
        row = self.clf.predict([file]).iloc[0]
        return f'judged {row.call}' if row.call in ('positive', 'negative') else f'rejected: {row.why}'

    def survey(self, folder):
        "How many DICOM files of a folder are read"
        kinds = Counter()
        for file in sorted(Path(folder).rglob('*.dcm')):
            try:
                self.read_image(file)
                kinds['read'] += 1
            except ValueError: kinds['refused'] += 1
            except Exception: kinds['crashed'] += 1
        return ', '.join(f'{kinds[k]} {k}' for k in ('read', 'refused', 'crashed'))

    def found(self, folder): return f'{len(self.find(folder))} X-rays'

    def dataset(self, folder, labels=None, **options):
        table = self.read_dataset(folder, labels=labels and Path(folder)/labels, **options)
        if 'test' not in set(table.split): table = self.hold_out(table, .3, split='test')
        self.check_dataset(table)
        return f'{len(table)} X-rays of {table.patient.nunique()} patients, {table.positive.sum()} positive'

    def command(self, *words):
        "Exit status and words of a command, on one line"
        out = io.StringIO()
        err = io.StringIO()
        status = 0
        with mock.patch('sys.argv', list(words)), redirect_stdout(out), redirect_stderr(err):
            try: self.main()
            except SystemExit as e: status = e.code
        said = out.getvalue()
        if isinstance(status, str): said += status
        elif status: said += err.getvalue().strip().rpartition('\n')[2]
        return f'exit {status if isinstance(status, int) else 1}: {" ".join(said.split())}'

    def trained_on(self, people, file):
        "The classifier with a data card"
        self.clf.about['data']['card'] = dict(people=people)
        return self.clf.save(file)

    def predict(self, folder, maps=False, here=False, people=None):
        "How many answers a command writes, how many names a spreadsheet would run, and what is printed"
        place = Path(tempfile.mkdtemp(dir=Path(folder).parent))
        run = self.trained_on(people, place/'classifier.safetensors') if people else self.run
        more = ['--maps', str(place/'maps')] if maps else []
        back = os.getcwd()
        if here: os.chdir(folder)
        try: said = self.command('cxr_predict', str(run), '.' if here else folder, '--out', str(place/'answers.csv'), *more)
        finally: os.chdir(back)
        if not (place/'answers.csv').is_file(): return said
        names = pd.read_csv(place/'answers.csv').file
        made = f'{len([*(place/"maps").glob("*.png")])} maps, ' if maps else ''
        formulas = names.str.match('[=+@-]').sum()
        return f'{len(names)} answers, {formulas} formulas, {made}{said.replace(str(place), "FOLDER")}'

    def export(self, file):
        import onnx
        self.command('cxr_export', str(self.run), file)
        return f'IR version {onnx.load(file).ir_version}'

    def clone(self, place):
        "What nbdev_export changes in a clone with another name"
        import cxr_nb
        folder = Path(place)/'my course'/'Übung'/'cxr nb'
        def run(*words, **how): return subprocess.run([*map(str, words)], capture_output=True, text=True, check=True, **how).stdout
        run('git', 'clone', '-q', Path(cxr_nb.__file__).parents[1], folder)
        run(Path(sysconfig.get_path('scripts'))/'nbdev_export', cwd=folder, env={**os.environ, 'PYTHONPATH': str(folder)})
        return run('git', 'status', '--porcelain', cwd=folder).strip() or 'nothing changed'

class Before(Today):
    "Ask as a user did, in the names of commit 3f650f2"
    def __init__(self):
        from cxr_nb import data
        from cxr_nb.classifier import load_classifier
        from cxr_nb.commands import main
        from cxr_nb.film import read_grey
        from cxr_nb.run import first_run
        self.data, self.main, self.find = data, main, data.find_films
        self.read_image = lambda file, **_: read_grey(file)
        self.run = first_run()
        self.clf = load_classifier(self.run)

    def dataset(self, folder, positive=None, **_): # it knew no other options
        data = self.data
        path = data.find_data(folder)
        positive = data.positive_class(data.findings(path), positive)
        sides = [data.find_films(path, split) for split in ('train', 'test')]
        data.check_leak(*sides)
        xrays = [*sides[0], *sides[1]]
        patients = set(map(data.patient_id, xrays))
        return f'{len(xrays)} X-rays of {len(patients)} patients, {sum(x.parent.name == positive for x in xrays)} positive'

    def trained_on(self, people, file): return self.run # it said nothing about people

def told(asker, t, folder):
    "The answer to a try; what no user should see is a crash"
    words = [str(Path(tempfile.mkdtemp(dir=folder))/'out') if w == 'OUT' else w for w in t['words']]
    try: answer = getattr(asker, t['ask'])(*words, **t['options'])
    except (ValueError, OSError, ImportError) as e: answer = str(e)
    except Exception as e: answer = f'crash: {type(e).__name__}: {e}'
    if isinstance(answer, int): return answer
    for path in sorted([*words, str(asker.run), str(folder)], key=len, reverse=True):
        if '/' in path: answer = answer.replace(path, Path(path).name)
    return answer.encode('utf-8', 'backslashreplace').decode()[:1000]

def verdict(t, answer):
    "right, refused (with its reason), short, wrong or crash"
    if isinstance(answer, int): return 'right' if isinstance(t['expect'], int) and answer <= t['expect'] else 'wrong'
    if answer.startswith('crash'): return 'crash'
    if isinstance(t['expect'], int): return 'short' # a sound file was refused
    if re.search(t['expect'], answer, re.S): return 'right' if t['wanted'] == 'answer' else 'refused'
    return 'wrong' if re.match(r'judged|\d+ X-rays', answer) else 'short'

ORDER = 'crash', 'wrong', 'short', 'right', 'refused', 'not run' # the worst of its tries is a case's

def ask_all(asker, tries, folder):
    answers = []
    for t in tries:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            answers.append(told(asker, t, folder))
        print(t['no'], t['what'], '|', verdict(t, answers[-1]), '|', answers[-1], flush=True)
    return answers

def ask_before(code, folder):
    "The answers of an older library, in a process of its own"
    env = {**os.environ, 'PYTHONPATH': code}
    subprocess.run([sys.executable, '-W', 'ignore', __file__, '-', '--inside', str(folder)], env=env, check=True)
    return json.loads((folder/'before.json').read_text())

def as_record(tries, before, today, earlier):
    "A case for each number, with its tries; those that were not asked again are kept"
    kept = {case['number']: case['tries'] for case in earlier}
    cases = []
    for row in csv.DictReader(Path(__file__).with_suffix('.csv').open(encoding='utf-8')):
        number = int(row['number'])
        was = {k['what']: k['before'] for k in kept.get(number, [])}
        found = []
        for t, b, a in zip(tries, before, today):
            if t['no'] != number: continue
            if b is None: b = was.get(t['what'])
            found.append(dict(what=t['what'], before=b, verdict_before='not run' if b is None else verdict(t, b),
                              today=a, verdict=verdict(t, a)))
        found = found or kept.get(number, [])
        worst = {v: min([f[v] for f in found], key=ORDER.index, default='not run') for v in ('verdict_before', 'verdict')}
        cases.append(dict(number=number, source=row['source'], note=row['note'], **worst, tries=found))
    return cases

if __name__ == '__main__':
    p = argparse.ArgumentParser()
    p.add_argument('run')
    p.add_argument('--before', help='folder of the code of 3f650f2')
    p.add_argument('--only', type=int, nargs='+', help='numbers of cases')
    p.add_argument('--inside', help=argparse.SUPPRESS) # the process that asks that code
    a = p.parse_args()
    if a.inside:
        folder = Path(a.inside)
        answers = ask_all(Before(), json.loads((folder/'tries.json').read_text()), folder)
        sys.exit((folder/'before.json').write_text(json.dumps(answers)) == 0)
    from public_files import make_cases
    out = Path(__file__).with_suffix('.json')
    earlier = json.loads(out.read_text(encoding='utf-8')) if out.is_file() else []
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        tries = [t for t in make_cases(folder) if not a.only or t['no'] in a.only]
        (folder/'tries.json').write_text(json.dumps(tries))
        today = ask_all(Today(Path(a.run)), tries, folder)
        before = ask_before(a.before, folder) if a.before else [None]*len(tries)
    cases = as_record(tries, before, today, earlier)
    out.write_text(json.dumps(cases, indent=1, ensure_ascii=False) + '\n', encoding='utf-8')
    for name in ('verdict_before', 'verdict'): print(name, Counter(c[name] for c in cases))
