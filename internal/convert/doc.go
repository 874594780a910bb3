// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package convert turns the body of a SubmitJob request into a BatchJob, that of a
// CreateComputeEnv request into a ComputeEnv, and both back.
//
//	{"Placement": …, "Job": …}            JSON             --.
//	Job.Tasks.0.Application.Command=…&…   form, one line   ----> BatchJob + Secrets
//	Job.Tasks.0.Application.Command=…     lines            --|
//	--Job.Tasks.0.Application.Command …   command line     --'
//
// No field is listed here. The names are those of the JSON tags of the API types with
// a capital first letter, and a short table has the exceptions; a field that is added
// to the types is converted without further code.
//
// Decoding is strict, because a field that is silently dropped is a job that silently
// runs wrong: an unknown field, one that is given twice and a value of another type
// are errors, all of them are reported, and each names the field as the vendor writes
// it (Job.Tasks.0.TaskName). Two liberties that the vendor's guides take are allowed:
// a number may be written as a text ("Priority": "1"), and so may a switch
// ("PublicIpAssigned": "TRUE").
//
// The headers of an HTTP request may stand before a body; they name the action and the version.
//
// Nothing of a body is lost without a word: several parameters on one line are split or
// the line is refused, as is what may be URL-encoded or not, and what is passed over as a
// placeholder is in Request.Notes.
//
// No object holds credentials. A password or key in a body becomes a Secret beside
// the object, which refers to it by name; on the way back it is left out. No error
// repeats a text of the body other than a field's name.
package convert
