// Holdfast under Kubernetes: the apiserver's own storage contract against a running node, and a real control plane.
module holdfast/tests/kubernetes

go 1.26.0

require (
	go.etcd.io/etcd/client/v3 v3.7.3
	k8s.io/apiserver v0.37.2
)
