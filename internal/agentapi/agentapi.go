// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package agentapi has what the operator and the agent in a Pod tell each other. The operator gives each
// container of the agent one of the structures Stage, Exec and Outputs as JSON in the environment variable
// ConfigVariable; the agent reports a Result as JSON in the container's termination message.
//
// Secrets are not part of it: a Store names a directory that a Secret is mounted at.
package agentapi

// Version is the version of the structures here. The operator and the agent of a Pod are always of one
// release, except while the operator is upgraded: an agent refuses another version and says so.
const Version = 1

// ConfigVariable is the environment variable with the configuration.
const ConfigVariable = "BATCHCOMPUTE_AGENT"

// Paths in the containers of a Pod.
const (
	// AgentDir is where the agent's program is mounted, read-only, in the container of the command, and
	// AgentFile is the program in it.
	AgentDir  = "/.batchcompute/bin"
	AgentFile = "agent"
	// StateDir is a directory that the containers of the command and of the outputs share. It has the
	// files below.
	StateDir = "/.batchcompute/state"
	// CredentialsDir has a directory for each Secret with keys of a store; it is mounted only where the
	// user's program cannot see it.
	CredentialsDir = "/.batchcompute/credentials"
)

// Files in a directory of CredentialsDir.
const (
	SecretIDFile  = "secretId"
	SecretKeyFile = "secretKey"
	// TokenFile is the session token of temporary keys, which may be missing; or, for an Identity, the token
	// of a ServiceAccount.
	TokenFile = "token"
)

// Files in StateDir.
const (
	// LockFile is locked (flock, exclusive) by exec from before StartedFile is there until the command
	// has ended. That exec itself was killed frees it, too.
	LockFile = "lock"
	// StartedFile says that the command is being started, or never will be. Only one process can create
	// it: exec, or outputs if it is stopped before.
	StartedFile = "started"
	// ExitFile has an Exit, written when the command has ended. It is missing if exec was killed.
	ExitFile = "exit.json"
	// StdoutFile and StderrFile have the streams of the command.
	StdoutFile = "stdout"
	StderrFile = "stderr"
)

// Stage is what is to be in place before the command starts.
type Stage struct {
	Version int     `json:"version"`
	Inputs  []Input `json:"inputs,omitempty"`
	// Package is the program; nil means none.
	Package *Package `json:"package,omitempty"`
	Limits  Limits   `json:"limits"`
	// MessageBytes is how long the termination message may be: see MessageBytes. 0 means MaxMessageBytes.
	MessageBytes int `json:"messageBytes,omitempty"`
}

// Input is a tree of objects to be copied to a local directory.
type Input struct {
	// Field is the field of the job, such as inputMappings[0], and Source what it says: for messages.
	Field  string `json:"field"`
	Source string `json:"source"`
	Store  Store  `json:"store"`
	// Prefix is that of the keys; it is empty or ends with /.
	Prefix string `json:"prefix,omitempty"`
	// Destination is the local directory, an absolute path. It exists, and nobody else writes to it
	// meanwhile. Path is what the job and its command call it: for messages.
	Destination string `json:"destination"`
	Path        string `json:"path"`
}

// Package is an archive, .tgz or .tar.gz, to be unpacked into a local directory.
type Package struct {
	Field  string `json:"field"`
	Source string `json:"source"`
	// Store and Key say where it is; without a Store, Source is its URL.
	Store *Store `json:"store,omitempty"`
	Key   string `json:"key,omitempty"`
	// Destination is the local directory, an absolute path. It exists.
	Destination string `json:"destination"`
}

// Exec is how the command runs. The command itself is the arguments of exec.
type Exec struct {
	Version int `json:"version"`
	// KeepStdout and KeepStderr have the streams written to StdoutFile and StderrFile; else those files have
	// at most the last MaxTail bytes and one, for the results.
	KeepStdout bool `json:"keepStdout,omitempty"`
	KeepStderr bool `json:"keepStderr,omitempty"`
	// LocalStdout and LocalStderr are files in the container that get a copy of the streams, absolute
	// paths; empty means none. Their directories are created.
	LocalStdout string `json:"localStdout,omitempty"`
	LocalStderr string `json:"localStderr,omitempty"`
	// GraceSeconds is how long the command may continue after SIGTERM before it is killed.
	GraceSeconds int `json:"graceSeconds"`
	// HoldSeconds is how long exec stays alive after a command that failed, so that its container can be
	// debugged; 0 means that it does not.
	HoldSeconds int `json:"holdSeconds,omitempty"`
	// MessageBytes is as in Stage.
	MessageBytes int `json:"messageBytes,omitempty"`
}

// Outputs is what is to be stored when the command has ended.
type Outputs struct {
	Version int      `json:"version"`
	Outputs []Output `json:"outputs,omitempty"`
	// Stdout and Stderr are where the streams are stored; nil means nowhere.
	Stdout *Redirect `json:"stdout,omitempty"`
	Stderr *Redirect `json:"stderr,omitempty"`
	// OnFailure says that Outputs are stored after a failed command, too. The streams always are.
	OnFailure bool   `json:"onFailure,omitempty"`
	Limits    Limits `json:"limits"`
	// GraceSeconds is how long storing may continue after SIGTERM. Then transfers are stopped, and uploads in parts
	// aborted, so that nothing of them is left in the store. 0 means that they are stopped at once.
	GraceSeconds int `json:"graceSeconds,omitempty"`
	// MessageBytes is as in Stage.
	MessageBytes int `json:"messageBytes,omitempty"`
}

// Output is a local directory to be copied to a store.
type Output struct {
	Field       string `json:"field"`
	Destination string `json:"destination"`
	// Source is the local directory, an absolute path. Path is what the job and its command call it: for
	// messages, and for absolute links in it.
	Source string `json:"source"`
	Path   string `json:"path"`
	Store  Store  `json:"store"`
	// Prefix is that of the keys; it is empty or ends with /.
	Prefix string `json:"prefix,omitempty"`
}

// Redirect is an object that gets a stream of the command.
type Redirect struct {
	Field       string `json:"field"`
	Destination string `json:"destination"`
	Store       Store  `json:"store"`
	Key         string `json:"key"`
}

// Store is a bucket, and how to reach it.
type Store struct {
	// Endpoint is a URL without a path: https://cos.ap-guangzhou.myqcloud.com.
	Endpoint string `json:"endpoint"`
	Bucket   string `json:"bucket"`
	// Region is that of the signature.
	Region string `json:"region"`
	// PathStyle says that the bucket is in the path of URLs, not in the host.
	PathStyle bool `json:"pathStyle,omitempty"`
	// Credentials is a directory with the files SecretIDFile, SecretKeyFile and TokenFile, read again for
	// each request, since a Secret can be rotated. Empty means that requests are not signed.
	Credentials string `json:"credentials,omitempty"`
	// SecretID is what SecretIDFile would have; empty means that the file has it. It is not a secret.
	SecretID string `json:"secretId,omitempty"`
	// KeyField is the field that gives the key, such as authentications[0]; empty means that the operator's catalogue
	// gives it, or that there is none. KeySecret is the name of the Secret that Credentials has; empty without one.
	// Both are for messages.
	KeyField  string `json:"keyField,omitempty"`
	KeySecret string `json:"keySecret,omitempty"`
	// Identity is the URL of an STS service that exchanges the token of Credentials (AssumeRoleWithWebIdentity).
	Identity string `json:"identity,omitempty"`
	// Role is the role that Identity is asked for.
	Role string `json:"role,omitempty"`
	// CA are certificates in PEM form that the endpoint's is checked by; empty means the system's.
	CA string `json:"ca,omitempty"`
}

// Limits bound transfers. A zero value means the agent's default.
type Limits struct {
	// Workers is how many objects, or parts of them, are transferred at once, and PartBytes the size of a
	// part. Source: BatchCompute, OutputMappingConfig.WorkerNum, WorkerPartSize.
	Workers   int   `json:"workers,omitempty"`
	PartBytes int64 `json:"partBytes,omitempty"`
	// MaxBytes bounds what is stored locally, archives unpacked, and MaxBytesField is the field that sets it: for
	// messages. MaxFiles bounds the number of files.
	MaxBytes      int64  `json:"maxBytes,omitempty"`
	MaxBytesField string `json:"maxBytesField,omitempty"`
	MaxFiles      int    `json:"maxFiles,omitempty"`
	// StallSeconds is how long a transfer may make no progress before it is tried again, and
	// NoProgressSeconds how long it is tried without progress before it fails.
	StallSeconds      int `json:"stallSeconds,omitempty"`
	NoProgressSeconds int `json:"noProgressSeconds,omitempty"`
}

// Exit is how the command ended.
type Exit struct {
	// Code is the exit code; 128 and more for a signal.
	Code int `json:"code"`
	// Error says why the command could not be started; Code is 126 or 127 then.
	Error string `json:"error,omitempty"`
	// Incomplete says which copy of a stream lacks what the command wrote, and why: a full disk.
	Incomplete string `json:"incomplete,omitempty"`
}

// Class says whether a failure can be expected to pass.
type Class string

// The classes of failures.
const (
	// Transient: the store or the network did not answer, or not in time.
	Transient Class = "transient"
	// Permanent: trying again gives the same result, before somebody changes something.
	Permanent Class = "permanent"
)

// Result is what a container of the agent reports.
type Result struct {
	Version int `json:"version"`
	// Class is empty for success.
	Class Class `json:"class"`
	// Code is the exit code of the command. Only outputs reports it, once the command has ended: the
	// container of the command still runs while it is held.
	Code *int `json:"code,omitempty"`
	// Message says what failed, at which field and object, and what to do. It has no secrets, at most
	// MaxResultMessage bytes. With success it is empty or a warning, such as that a disk was full.
	Message string `json:"message,omitempty"`
	// Files and Bytes are what was transferred, without what was there already.
	Files int   `json:"files,omitempty"`
	Bytes int64 `json:"bytes,omitempty"`
	// Skipped counts files that cannot be stored: FIFOs, sockets, devices.
	Skipped int `json:"skipped,omitempty"`
	// Digest is the SHA-256, hexadecimal, of the list of checksums, sizes and keys that are stored: stdout,
	// stderr, then each output in the order of its keys.
	Digest string `json:"digest,omitempty"`
	// Tail is the end of a stream: of stdout in the message of exec, of stderr in that of outputs; see
	// CutTail. In a message its lines are in reverse order: see EncodeResult.
	Tail string `json:"-"`
}

// Sizes in a Result. Unit: bytes.
const (
	MaxResultMessage = 1024
	// MaxTail is also that of DescribeTaskLogs. Source: BatchCompute, TaskInstanceLog.StdoutLog.
	MaxTail = 2048
	// MaxMessageBytes is what a kubelet reads of a termination message, from its end.
	MaxMessageBytes = 4096
	// maxPodMessageBytes is what a Pod's status keeps of the messages of all its containers.
	maxPodMessageBytes = 12288
)

// Exit codes of the agent itself. That of exec is the command's; if exec itself failed, so that the command
// was not started, its code is one of these and the Class of its Result is not empty.
const (
	// ExitTransient and ExitPermanent are those of stage and outputs that failed. What outputs did decides
	// its exit code, not how the command ended.
	ExitTransient = 75
	ExitPermanent = 65
	// ExitUsage: the configuration is wrong, or of another version.
	ExitUsage = 64
	// ExitKilled is the code of a command whose exec was killed, so that it left no Exit: that of SIGKILL.
	ExitKilled = 137
)
