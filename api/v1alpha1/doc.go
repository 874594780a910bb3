// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package v1alpha1 holds the types of the API group batchcompute.dev/v1alpha1.
//
// A BatchJob carries one request of the BatchCompute API's SubmitJob action,
// version 2017-03-12. Every field keeps the API's own name with a lower-case
// first letter, so that a request body converts mechanically:
//
//	SubmitJob request            BatchJob
//	-----------------            --------
//	Placement          ------>   spec.placement
//	Job                ------>   spec.job
//	  Tasks[]          ------>   spec.job.tasks[]         a task runs taskInstanceNum instances
//	  Dependences[]    ------>   spec.job.dependences[]   startTask runs before endTask
//	ClientToken        ------>   spec.clientToken
//	JobId  (answer)    ------>   status.jobId
//
// Three rules hold for all types here.
//
//   - No credential is a field. Where the API has a password or a key, a
//     SecretRef names a Secret of the same namespace.
//   - Integers are signed and carry no minimum, enumerations are plain strings:
//     a wrong value must reach the admission webhook, which answers with the
//     API's own error code. The schema would refuse it first, without a code.
//   - Nothing inside a list item is defaulted in the stored object, so a
//     manifest under GitOps never differs from what is stored. The comment
//     of a field says what its absence means; the operator applies that when it reads the object.
//
// +kubebuilder:object:generate=true
// +groupName=batchcompute.dev
package v1alpha1
