module batchcompute.dev/operator/hack/cluster/mod/pause

go 1.26.0
