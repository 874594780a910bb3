// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package fairqueue is a controller's work queue with fair queueing: it shares the workers out among
// namespaces. It implements controller-runtime's PriorityQueue. It is stateful: it has a lock and a timer.
//
// Within a namespace requests are handed out by priority, equal ones in the order in which they
// became ready. Between namespaces priorities do not count, since each tenant chooses its own:
//
//   - The next request is one of the namespace for which the fewest workers are busy; of several,
//     the one that has not been served for the longest time.
//   - A namespace gets another worker only while it has fewer than are idle. Alone it has half
//     of all workers at most; of n namespaces with much to do each has one part in n+1. So there
//     is an idle worker for a namespace that comes, as long as there are more workers than
//     namespaces. A namespace always gets its first worker if there is an idle one.
//
// For the rest the queue does what those of client-go and controller-runtime do:
//
//   - A request that is added several times before it is handed out is handed out once, with the
//     highest priority and at the earliest time of all.
//   - A request is never handed out while it is being processed. If it is added meanwhile, it is
//     handed out again after Done.
//   - Metrics are the same, by the same names.
//
// Add and Get cost O(log requests + log namespaces).
package fairqueue
