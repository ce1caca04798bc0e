"""Eight tasks in a row that do next to nothing: what is left is Airflow's own time. For `make bench` only."""

from airflow.sdk import DAG, task

with DAG("eight_tasks", schedule=None, catchup=False, tags=["benchmark"]) as dag:

    @task
    def add_one(number: int) -> int:
        """Return the next number."""
        return number + 1

    value = add_one(0)
    for _ in range(7):
        value = add_one(value)
