"""What the command lines of one machine (`embedded`) and of a cluster (`k8s.install`) say alike of the main job."""
