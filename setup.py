"Installs cxr_nb as `settings.ini` describes it; edit that file, not this one."
from configparser import ConfigParser
from pathlib import Path
from setuptools import setup, find_packages

here = Path(__file__).parent
config = ConfigParser(delimiters=['='], interpolation=None)
config.read(here/'settings.ini', encoding='utf-8')
cfg = config['DEFAULT']

EXTRAS = [key.removesuffix('_requirements') for key in cfg if key.endswith('_requirements')]

setup(
    name = cfg['lib_name'],
    version = cfg['version'],
    description = cfg['description'],
    long_description = (here/'README.md').read_text(encoding='utf-8'),
    long_description_content_type = 'text/markdown',
    url = cfg['git_url'],
    author = cfg['author'],
    author_email = cfg['author_email'],
    keywords = cfg['keywords'],
    license = 'Apache-2.0',
    license_files = ['LICENSE'],
    packages = find_packages(include=['cxr_nb', 'cxr_nb.*']),
    package_data = dict(cxr_nb=['browser/*']),
    python_requires = f">={cfg['min_python']}",
    install_requires = cfg['requirements'].split(),
    extras_require = {extra: cfg[f'{extra}_requirements'].split() for extra in EXTRAS},
    entry_points = dict(console_scripts=cfg['console_scripts'].split(), nbdev=[f"{cfg['lib_name']}={cfg['lib_path']}._modidx:d"]),
    classifiers = ['Development Status :: 3 - Alpha', 'Intended Audience :: Science/Research', 'Intended Audience :: Education',
                   'Programming Language :: Python :: 3', 'Topic :: Scientific/Engineering :: Image Recognition'],
    zip_safe = False,
)
