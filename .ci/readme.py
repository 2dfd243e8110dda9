"""README.md from nbs/index.ipynb, without Quarto.

python .ci/readme.py            write README.md
python .ci/readme.py --check    fail if it differs from what would be written
"""
import re, sys
from pathlib import Path
import nbformat
from nbconvert import MarkdownExporter
from traitlets.config import Config

root = Path(__file__).parent.parent

def shown(cell):
    "Drop hidden cells, nbdev's directives, and the source of `echo: false` cells"
    directives = re.findall(r'^#\|\s*(.*)', cell.source, flags=re.M)
    if any(d.startswith(('hide', 'default_exp')) for d in directives): return None
    cell.source = re.sub(r'^#\|.*\n?', '', cell.source, flags=re.M)
    # tables as plain text; progress bars not at all
    bar = lambda data: data.get('text/html', '').startswith('<div><table class="fastprogress"') or data.get('text/plain', '').startswith('<IPython') and 'text/markdown' not in data
    if cell.cell_type == 'code': cell.outputs = [o for o in cell.outputs if not bar(o.get('data', {}))]
    for o in cell.get('outputs', []): o.get('data', {}).pop('text/html', None)
    if any(re.match(r'echo:\s*false', d) for d in directives): cell.metadata['tags'] = ['no_input']
    return cell

def readme():
    "The text of README.md"
    nb = nbformat.read(root/'nbs'/'index.ipynb', as_version=4)
    nb.cells = [c for c in map(shown, nb.cells) if c is not None]
    nb.metadata.language_info = dict(name='python')
    config = Config()
    config.TagRemovePreprocessor.remove_input_tags = {'no_input'}
    config.TagRemovePreprocessor.enabled = True
    text, _ = MarkdownExporter(config=config).from_notebook_node(nb)
    # links of the index are relative to nbs/, those of the README to its parent
    text = re.sub(r'(\]\(|src=")(?!https?:|#)', r'\1nbs/', text)
    text = re.sub(r'\n{3,}', '\n\n', re.sub(r'[ \t]+$', '', text, flags=re.M))
    return '<!-- Made from nbs/index.ipynb by: python .ci/readme.py -->\n\n' + text.strip() + '\n'

if __name__ == '__main__':
    file, text = root/'README.md', readme()
    if '--check' not in sys.argv: file.write_text(text, encoding='utf-8')
    elif file.read_text(encoding='utf-8') != text: sys.exit('README.md differs from nbs/index.ipynb; run: python .ci/readme.py')
