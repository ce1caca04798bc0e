"""The stand-in's programs, by their names: cluster-operator, topic-operator, user-operator, broker."""

import logging
import sys

from tests.cluster.standins.strimzi.api import ApiError
from tests.cluster.standins.strimzi.work import end_with_threads

# Each imports its own: the client library is no part of two of them.


def main(name: str) -> None:
    """Run one of the programs."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stdout)
    end_with_threads()
    if name == "cluster-operator":
        from tests.cluster.standins.strimzi import cluster_operator

        cluster_operator.main()
    elif name == "topic-operator":
        from tests.cluster.standins.strimzi import entity_operator

        entity_operator.topic_operator()
    elif name == "user-operator":
        from tests.cluster.standins.strimzi import entity_operator

        entity_operator.user_operator()
    elif name == "broker":
        from tests.cluster.standins.strimzi import broker

        broker.main()
    else:
        sys.exit(f"There is no program {name}.")


if __name__ == "__main__":
    try:
        main(sys.argv[1] if len(sys.argv) == 2 else "")
    except ApiError as error:
        sys.exit(str(error))
