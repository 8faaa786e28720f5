// Package rules keeps the rules of this repository: its tests read the code,
// the documents and the module files and fail where they break a rule. What a
// linter can say is left to the linter (.golangci.yml); here is what is
// particular to this project. CONTRIBUTING.md has the rules in prose.
//
// An exception to a rule is an entry in a list beside the rule, with its
// reason. An entry that is no longer needed fails, too.
package rules
