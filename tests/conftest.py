"""What holds for every test: an AIRFLOW_HOME that is nobody's."""

import atexit
import os
import shutil
import tempfile

# Before anything imports Airflow, which writes its settings to AIRFLOW_HOME as soon as it is imported. One for each
# process that runs tests: a worker inherits its parent's environment.
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="millrace-test-airflow-")
atexit.register(shutil.rmtree, os.environ["AIRFLOW_HOME"], ignore_errors=True)
