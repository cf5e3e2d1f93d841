"""Django's command line. `./qexplorer WORD …` calls it inside the project's own environment."""

import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "qexplorer_site.settings")
    execute_from_command_line(sys.argv)
