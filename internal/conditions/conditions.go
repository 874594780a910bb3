// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package conditions has the one table of the conditions of each kind, and the one way to set them.
// What the table does not have is not set.
package conditions

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"batchcompute.dev/operator/api/v1alpha1"
)

// Polarity says which value of a condition is the normal one.
type Polarity string

// The polarities.
const (
	Positive Polarity = "positive" // true is the normal state
	Negative Polarity = "negative" // true calls for attention
	Neutral  Polarity = "neutral"  // neither is better
)

// Presence says when a condition is in the status.
type Presence string

// The presences.
const (
	// OnceKnown: as True or as False from when it is known. Absence means Unknown.
	OnceKnown Presence = "once known"
	// WhenKnown: as True or as False while it is known. Absence means Unknown.
	WhenKnown Presence = "when known"
	// WhileTrue: only as True. Absence means the same as False.
	WhileTrue Presence = "while true"
	// OnceTrue: absent until it is True for the first time, then as True or as False. Absence means
	// the same as False.
	OnceTrue Presence = "once true"
)

// Kind is one row of the table.
type Kind struct {
	Type     string
	Polarity Polarity
	Presence Presence
	// True and False are the reasons that it may have as True and as False.
	True, False []string
}

// BatchJob are the conditions of a BatchJob.
var BatchJob = []Kind{
	{
		Type: v1alpha1.ConditionAccepted, Polarity: Positive, Presence: OnceKnown,
		True: []string{v1alpha1.ReasonAccepted, v1alpha1.ReasonAlreadyRan}, False: []string{v1alpha1.ReasonInvalidRequest},
	},
	{
		Type: v1alpha1.ConditionDuplicate, Polarity: Negative, Presence: WhileTrue,
		True: []string{v1alpha1.ReasonDuplicate},
	},
	{
		Type: v1alpha1.ConditionSuspended, Polarity: Neutral, Presence: OnceTrue,
		True: []string{v1alpha1.ReasonSuspended}, False: []string{v1alpha1.ReasonResumed},
	},
	{
		Type: v1alpha1.ConditionInvalidAnnotation, Polarity: Negative, Presence: WhileTrue,
		True: []string{v1alpha1.ReasonInvalidAnnotation},
	},
	{
		Type: v1alpha1.ConditionDeletionDelayed, Polarity: Negative, Presence: WhileTrue,
		True: []string{v1alpha1.ReasonTombstoneRefused},
	},
	{
		Type: v1alpha1.ConditionNotified, Polarity: Positive, Presence: WhenKnown,
		True: []string{v1alpha1.ReasonDelivered}, False: []string{v1alpha1.ReasonDeliveryFailing, v1alpha1.ReasonEventsGivenUp},
	},
	{
		Type: v1alpha1.ConditionReconciling, Polarity: Negative, Presence: WhileTrue,
		True: []string{v1alpha1.ReasonProgressing},
	},
	{
		Type: v1alpha1.ConditionStalled, Polarity: Negative, Presence: WhileTrue,
		True: []string{
			v1alpha1.ReasonJobFailed, v1alpha1.ReasonTerminated, v1alpha1.ReasonInvalidRequest, v1alpha1.ReasonAlreadyRan,
			v1alpha1.ReasonInterrupted, v1alpha1.ReasonStatusUnreadable,
		},
	},
	{
		Type: v1alpha1.ConditionComplete, Polarity: Positive, Presence: WhileTrue,
		True: []string{v1alpha1.ReasonJobSucceed, v1alpha1.ReasonAlreadyRan},
	},
	{
		Type: v1alpha1.ConditionFailed, Polarity: Negative, Presence: WhileTrue,
		True: []string{v1alpha1.ReasonJobFailed, v1alpha1.ReasonTerminated, v1alpha1.ReasonInvalidRequest, v1alpha1.ReasonAlreadyRan},
	},
}

// ComputeEnv are the conditions of a ComputeEnv.
var ComputeEnv = []Kind{
	{
		Type: v1alpha1.ConditionReady, Polarity: Positive, Presence: OnceKnown,
		True: []string{v1alpha1.ReasonReady, v1alpha1.ReasonScaling}, False: []string{v1alpha1.ReasonResourceInUse, v1alpha1.ReasonEventsPending},
	},
	{
		Type: v1alpha1.ConditionReconciling, Polarity: Negative, Presence: WhileTrue,
		True: []string{v1alpha1.ReasonScaling, v1alpha1.ReasonResourceInUse, v1alpha1.ReasonEventsPending},
	},
	{
		Type: v1alpha1.ConditionNotified, Polarity: Positive, Presence: WhenKnown,
		True: []string{v1alpha1.ReasonDelivered}, False: []string{v1alpha1.ReasonDeliveryFailing, v1alpha1.ReasonEventsGivenUp},
	},
}

// Setter sets the conditions of one status.
type Setter struct {
	kinds      []Kind
	conditions *[]metav1.Condition
	generation int64
	now        int64 // Unit: seconds since 1970. A time.Time would have a pointer, and move every status to the heap.
}

// OfBatchJob returns the Setter for the status of a BatchJob of this generation. Transitions take
// place at the time now.
func OfBatchJob(s *v1alpha1.BatchJobStatus, generation int64, now time.Time) Setter {
	return Setter{BatchJob, &s.Conditions, generation, now.Unix()}
}

// OfComputeEnv is OfBatchJob for a ComputeEnv.
func OfComputeEnv(s *v1alpha1.ComputeEnvStatus, generation int64, now time.Time) Setter {
	return Setter{ComputeEnv, &s.Conditions, generation, now.Unix()}
}

// True sets a condition to True. The time of its transition stays where it was True before.
func (s Setter) True(kind, reason, message string) {
	if s.find(kind) != nil {
		s.set(kind, metav1.ConditionTrue, reason, message)
	}
}

// False says that a condition is not true: by its presence in the table, that is to set it to False or
// to remove it.
func (s Setter) False(kind, reason, message string) {
	k, was := s.find(kind), meta.FindStatusCondition(*s.conditions, kind)
	switch {
	case k == nil:
	case k.Presence == OnceKnown, k.Presence == WhenKnown, k.Presence == OnceTrue && was != nil:
		s.set(kind, metav1.ConditionFalse, reason, message)
	case was != nil: // else the list would be copied for nothing
		meta.RemoveStatusCondition(s.conditions, kind)
	}
}

// Remove removes conditions that are in the status only while they are true, or known.
func (s Setter) Remove(kinds ...string) {
	for _, kind := range kinds {
		if k := s.find(kind); k == nil || k.Presence != WhenKnown {
			s.False(kind, "", "")
		} else if meta.FindStatusCondition(*s.conditions, kind) != nil {
			meta.RemoveStatusCondition(s.conditions, kind)
		}
	}
}

func (s Setter) set(kind string, status metav1.ConditionStatus, reason, message string) {
	meta.SetStatusCondition(s.conditions, metav1.Condition{
		Type: kind, Status: status, Reason: reason, Message: message, ObservedGeneration: s.generation, LastTransitionTime: metav1.NewTime(time.Unix(s.now, 0).UTC()),
	})
}

func (s Setter) find(kind string) *Kind { return find(s.kinds, kind) }

func find(kinds []Kind, kind string) *Kind {
	for i := range kinds {
		if kinds[i].Type == kind {
			return &kinds[i]
		}
	}
	return nil
}

// Violation says what of conditions is not as the table says, "" if all is. It is for tests.
func Violation(kinds []Kind, conditions []metav1.Condition) string {
	for i := range conditions {
		c := &conditions[i]
		k := find(kinds, c.Type)
		switch {
		case k == nil:
			return c.Type + " is not in the table"
		case c.Status == metav1.ConditionTrue && slices.Contains(k.True, c.Reason):
		case c.Status == metav1.ConditionFalse && slices.Contains(k.False, c.Reason):
		default:
			return c.Type + " must not be " + string(c.Status) + " with the reason " + c.Reason
		}
	}
	return ""
}
