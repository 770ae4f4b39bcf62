package rules

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"cel.dev/cel-go/interpreter"

	"github.com/copyfleet/copyfleet/producer/events"
)

// Limits of an expression. The cost decides, since it is the same on every machine; the time is there for what the cost might not see.
const (
	maxExpression  = 4 << 10 // code points
	maxNesting     = 60      // of its parts
	maxNodes       = 5000
	maxLoops       = 2       // one in the other
	maxRegex       = 2000    // instructions
	maxCost        = 1 << 20 // about one for each step, and for each ten bytes of a text that is looked through
	maxExpressTime = 5 * time.Second
)

// expression is what a rule asks of an event beyond its literal match.
type expression struct {
	program cel.Program
	source  events.Source
	text    string
}

// fault is what is wrong with a text; line is within it, from 1.
type fault struct {
	line    int
	message string
}

// environments has what expressions may name: the standard functions of CEL, which know no clock, no chance and no network, so that the same event is
// decided alike for ever. Its extensions stay out: one call of replace() or join() can make a text of gigabytes before anybody counts its cost.
var environments = map[events.Source]func() (*cel.Env, error){
	events.S3: sync.OnceValues(func() (*cel.Env, error) {
		return newEnvironment(cel.Variable("bucket", cel.StringType), cel.Variable("key", cel.StringType),
			cel.Variable("size", cel.IntType), cel.Variable("etag", cel.StringType))
	}),
	events.CloudEvents: sync.OnceValues(func() (*cel.Env, error) { return newEnvironment() }),
}

func newEnvironment(own ...cel.EnvOption) (*cel.Env, error) {
	env, err := cel.NewEnv(append(own,
		cel.Variable("event", cel.MapType(cel.StringType, cel.DynType)),
		cel.Variable("type", cel.StringType),
		cel.Variable("data", cel.DynType),
		cel.CustomTypeAdapter(adapter{}),
		cel.CrossTypeNumericComparisons(true),
		cel.ParserExpressionSizeLimit(maxExpression),
		cel.ParserRecursionLimit(maxNesting),
		cel.ExpressionNodeLimit(maxNodes),
		cel.RegexProgramSizeLimit(maxRegex),
		cel.ASTValidators(
			cel.ValidateComprehensionNestingLimit(maxLoops),
			cel.ValidateRegexLiterals(),
			cel.ValidateDurationLiterals(),
			cel.ValidateTimestampLiterals(),
		),
	)...)
	if err != nil {
		return nil, fmt.Errorf("make the environment of expressions: %w", err)
	}
	return env, nil
}

// compileExpression checks an expression and its types.
func compileExpression(text string, source events.Source) (*expression, []fault) {
	env, err := environments[source]()
	if err != nil {
		return nil, []fault{{1, err.Error()}}
	}
	checked, issues := env.Compile(text)
	if issues.Err() != nil {
		var faults []fault
		for _, e := range issues.Errors() {
			faults = append(faults, fault{max(e.Location.Line(), 1), e.Message})
			if len(faults) == 5 { // the rest most often follows from these
				break
			}
		}
		return nil, faults
	}
	if !checked.OutputType().IsExactType(cel.BoolType) && !checked.OutputType().IsExactType(cel.DynType) {
		return nil, []fault{{1, "it must be true or false, and is of the type " + checked.OutputType().String()}}
	}
	if wrong := patternFaults(checked.NativeRep()); len(wrong) > 0 {
		return nil, wrong
	}
	if estimate, err := env.EstimateCost(checked, unknownSizes{}); err != nil || estimate.Min > maxCost {
		return nil, []fault{{1, "it costs too much whatever the event is"}}
	}
	program, err := env.Program(checked, cel.CostLimit(maxCost), cel.CostTracking(charges{}), cel.InterruptCheckFrequency(100))
	if err != nil {
		return nil, []fault{{1, err.Error()}}
	}
	return &expression{program, source, text}, nil
}

// patternFaults tells of patterns of matches() that are not there before an event is. One that an event holds may cost 100 MB and a second to be compiled
// before the library refuses it for its size, and what is refused is charged for nothing. The library looks at literal ones when the rule is applied.
func patternFaults(checked *ast.AST) (faults []fault) {
	for _, call := range ast.MatchDescendants(ast.NavigateAST(checked), ast.FunctionMatcher(overloads.Matches)) {
		args := call.AsCall().Args() // key.matches(pattern), or matches(key, pattern)
		if args[len(args)-1].Kind() != ast.LiteralKind {
			line := checked.SourceInfo().GetStartLocation(call.ID()).Line()
			faults = append(faults, fault{max(line, 1), "the pattern of matches() is a literal text"})
		}
	}
	return faults
}

// Why an expression is neither true nor false of an event.
var (
	errNotBool   = errors.New("the expression is neither true nor false of this event")
	errSlow      = errors.New("the expression took longer than 5 s")
	errCost      = errors.New("the expression costs too much for this event")
	errEvaluated = errors.New("the expression failed on this event")
)

// holds reports whether the expression is true of an event.
func (x *expression) holds(ctx context.Context, e *events.Event) (bool, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, maxExpressTime, errSlow)
	defer cancel()
	return x.evaluate(ctx, e)
}

// evaluate is held to the cost alone, and to its context.
func (x *expression) evaluate(ctx context.Context, e *events.Event) (bool, error) {
	fields := e.Fields
	if fields == nil {
		fields = map[string]any{}
	}
	values := map[string]any{"event": fields, "type": e.Type, "data": fields["data"]}
	if x.source == events.S3 {
		values["bucket"], values["key"], values["size"], values["etag"] = e.Bucket, e.Key, e.Size, e.ETag
	}
	result, _, err := x.program.ContextEval(ctx, values)
	if cause := context.Cause(ctx); cause != nil {
		return false, fmt.Errorf("decide on an event: %w", cause)
	}
	if err != nil {
		return false, x.reason(err)
	}
	holds, ok := result.Value().(bool)
	if !ok {
		return false, errNotBool
	}
	return holds, nil
}

// reasons are beginnings of what the library says of an evaluation that failed, and may be passed on. The rest repeats values of the event, which may
// be secrets. The library has no other way to tell; TestReasons holds it to these.
var reasons = []string{"no such overload", "division by zero", "modulus by zero", "index out of bounds"}

// reason says why an evaluation failed, in words of ours and of the rule's.
func (x *expression) reason(err error) error {
	if _, limited := errors.AsType[interpreter.EvalCancelledError](err); limited {
		return errCost
	}
	text := err.Error()
	for _, reason := range reasons {
		if strings.HasPrefix(text, reason) {
			return fmt.Errorf("%w: %s", errEvaluated, reason)
		}
	}
	if key, ok := strings.CutPrefix(text, "no such key: "); ok && strings.Contains(x.text, key) {
		return fmt.Errorf("%w: it has no %s; has() asks whether it has", errEvaluated, short(key))
	}
	return errEvaluated
}

// adapter shows the values of an event to expressions. Numbers of JSON are integers if they are written as such and fit.
type adapter struct{}

// NativeToValue implements [types.Adapter].
func (a adapter) NativeToValue(value any) ref.Val {
	switch v := value.(type) {
	case json.Number:
		if n, err := strconv.ParseInt(v.String(), 10, 64); err == nil {
			return types.Int(n)
		}
		f, err := strconv.ParseFloat(v.String(), 64)
		if err != nil {
			return types.String(v.String()) // beyond the range of a double
		}
		return types.Double(f)
	case map[string]any:
		return types.NewStringInterfaceMap(a, v)
	case []any:
		return types.NewDynamicList(a, v)
	}
	return types.DefaultTypeAdapter.NativeToValue(value)
}

// charges says what a call costs. The library's own figures are those of calls whose types are known when they are compiled, and of the data of an event
// no type is.
type charges struct{}

// CallCost implements [cost.ActualCostEstimator].
func (charges) CallCost(function, _ string, args []ref.Val, _ ref.Val) *uint64 {
	total := uint64(1)
	deep := function == operators.Equals || function == operators.NotEquals || function == operators.In || function == operators.OldIn
	for _, arg := range args {
		total += weight(arg, deep)
	}
	if function == overloads.Matches && len(args) == 2 {
		total += weight(args[0], false) * (4 + 4*weight(args[1], false)) // an automaton of many states at once is slow
	}
	return &total
}

// weight is what it costs to look at a value: one for ten bytes of a text, and, if calls look into them, one for each entry of lists and objects.
func weight(value any, deep bool) uint64 {
	switch v := value.(type) {
	case string:
		return uint64(len(v)) / 10
	case []byte:
		return uint64(len(v)) / 10
	case types.String:
		return uint64(len(v)) / 10
	case types.Bytes:
		return uint64(len(v)) / 10
	case map[string]any, []any, traits.Mapper, traits.Lister:
		if deep {
			return entries(v)
		}
	}
	return 0
}

// entries is the weight of what is in a list or an object. It stops counting where the limit is passed in any case.
func entries(value any) (total uint64) {
	switch v := value.(type) {
	case map[string]any: // as events have them: a tenth of the time of the iterators
		for name, entry := range v {
			if total += 1 + weight(name, true) + weight(entry, true); total > maxCost {
				break
			}
		}
	case []any:
		for _, entry := range v {
			if total += 1 + weight(entry, true); total > maxCost {
				break
			}
		}
	case traits.Mapper:
		if in, ok := v.Value().(map[string]any); ok {
			return entries(in)
		}
		for i := v.Iterator(); i.HasNext() == types.True && total <= maxCost; {
			name := i.Next()
			total += 1 + weight(name, true) + weight(v.Get(name), true)
		}
	case traits.Lister:
		if in, ok := v.Value().([]any); ok {
			return entries(in)
		}
		for i := v.Iterator(); i.HasNext() == types.True && total <= maxCost; {
			total += 1 + weight(i.Next(), true)
		}
	}
	return total
}

// unknownSizes estimates nothing: the cost is what an expression costs at least, whatever the event.
type unknownSizes struct{}

// EstimateSize implements [cost.Estimator].
func (unknownSizes) EstimateSize(cost.AstNode) *cost.SizeEstimate { return nil }

// EstimateCallCost implements [cost.Estimator].
//
//nolint:gocritic // the interface has a pointer there
func (unknownSizes) EstimateCallCost(string, string, *cost.AstNode, []cost.AstNode) *cost.CallEstimate {
	return nil
}
