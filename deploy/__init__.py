"""How the system is put onto machines: on this one, in containers, on Kubernetes."""
