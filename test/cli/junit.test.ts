// JUnit files of many tools: a test that a file counts but does not list is no pass, and an odd character does not spoil a file.
// The files are short examples in the form of each tool, and their tests are counted by hand.
import t, { type Test } from 'tap'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { makeJunit } from '../../src/cli/report/junit.ts'
import { summaryOf, type Report } from '../../src/cli/report/results.ts'
import { deck, folder } from '../support/cli.ts'
import { alice, makeMission, rafael, startDeck } from '../support/server.ts'

const xml = '<?xml version="1.0" encoding="UTF-8"?>\n'
// eslint-disable-next-line @typescript-eslint/require-await
const pieces = async function* (bytes: Buffer, size: number) {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
}
const read = async (files: (Buffer | string)[], size = 1 << 16): Promise<Report & { log: string }> => {
  let log = ''
  const reader = makeJunit((text) => (log += text))
  for (const [n, bytes] of files.entries()) await reader.read(`file ${n + 1}`, pieces(Buffer.from(bytes), size))
  return { ...reader.report(), log }
}
const junit = (bytes: Buffer | string, size?: number) => read([bytes], size)
const errors = ({ results }: Report): string =>
  results.flatMap(({ name, error }) => (error === undefined ? [] : [`${name}: ${error}`])).join('\n')

type Tool = { file: string; text: string; passed: number; failed: number; skipped: number; error?: RegExp }
const file = (
  name: string,
  [passed, failed, skipped]: [passed: number, failed: number, skipped: number],
  text: string,
  error?: RegExp,
): Tool => ({ file: name, text, passed, failed, skipped, ...(error ? { error } : {}) })

const files: Tool[] = [
  file(
    'pytest: a failure, a skip, an expected failure',
    [1, 1, 2],
    `<?xml version="1.0" encoding="utf-8"?><testsuites name="pytest tests"><testsuite name="pytest" errors="0" failures="1" skipped="2" tests="4" time="0.121" timestamp="2026-03-01T10:00:00.1+00:00" hostname="ci"><testcase classname="tests.test_bot" name="test_start" time="0.001" /><testcase classname="tests.test_bot" name="test_stop" time="0.002"><failure message="assert 1 == 2">def test_stop():
&gt;       assert 1 == 2
E       assert 1 == 2</failure></testcase><testcase classname="tests.test_bot" name="test_later" time="0.000"><skipped type="pytest.skip" message="no network">tests/test_bot.py:9: no network</skipped></testcase><testcase classname="tests.test_bot" name="test_bug" time="0.001"><skipped type="pytest.xfail" message="" /></testcase></testsuite></testsuites>`,
  ),
  file(
    'pytest: a module that can not be collected',
    [0, 1, 0],
    `<testsuites><testsuite name="pytest" errors="1" failures="0" skipped="0" tests="1" time="0.3"><testcase classname="" name="tests.test_keys" time="0.000"><error message="collection failure">ImportError: no module named keys</error></testcase></testsuite></testsuites>`,
    /collection failure/,
  ),
  file(
    'pytest: an error after a test that passed is counted as a second test',
    [0, 1, 0],
    `<testsuites><testsuite name="pytest" errors="1" failures="0" skipped="0" tests="2" time="0.3"><testcase classname="tests.test_db" name="test_insert" time="0.010"><error message="failed on teardown with &quot;OSError&quot;">OSError</error></testcase></testsuite></testsuites>`,
  ),
  file(
    'pytest: a failure and an error of one test are two cases',
    [0, 2, 0],
    `<testsuites><testsuite name="pytest" errors="1" failures="1" skipped="0" tests="1" time="0.3"><testcase classname="tests.test_db" name="test_drop" time="0.010"><failure message="assert False">x</failure></testcase><testcase classname="tests.test_db" name="test_drop" time="0.000"><error message="failed on teardown">OSError</error></testcase></testsuite></testsuites>`,
  ),
  file(
    'pytest: nothing was collected',
    [0, 1, 0],
    `<testsuites><testsuite name="pytest" errors="0" failures="0" skipped="0" tests="0" time="0.020" timestamp="2026-03-01T10:00:00" hostname="ci" /></testsuites>`,
    /JUnit: no tests/,
  ),
  file(
    'pytest: an error that has no case',
    [1, 1, 0],
    `<testsuites><testsuite name="pytest" errors="1" failures="0" skipped="0" tests="2" time="0.3"><testcase classname="tests.test_db" name="test_insert" time="0.010" /></testsuite></testsuites>`,
    /pytest > JUnit: the report counts 2 tests but lists 1, 0 failures and 1 errors but lists 0/,
  ),
  file(
    'surefire: properties, a failure, an error and a skip',
    [1, 2, 1],
    `${xml}<testsuite xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:noNamespaceSchemaLocation="https://maven.apache.org/surefire/maven-surefire-plugin/xsd/surefire-test-report.xsd" version="3.0" name="com.acme.BotTest" time="0.412" tests="4" errors="1" skipped="1" failures="1"><properties><property name="java.version" value="21"/></properties><testcase name="starts" classname="com.acme.BotTest" time="0.051"/><testcase name="stops" classname="com.acme.BotTest" time="0.002"><failure message="expected: &lt;1&gt; but was: &lt;2&gt;" type="org.opentest4j.AssertionFailedError"><![CDATA[org.opentest4j.AssertionFailedError: expected: <1> but was: <2>]]></failure></testcase><testcase name="sends" classname="com.acme.BotTest" time="0.1"><error type="java.net.ConnectException">java.net.ConnectException</error></testcase><testcase name="waits" classname="com.acme.BotTest" time="0"><skipped message="slow"/></testcase></testsuite>`,
  ),
  file(
    'surefire: a test that passed at its second run',
    [2, 0, 0],
    `${xml}<testsuite name="com.acme.FlakyTest" time="0.2" tests="2" errors="0" skipped="0" failures="0" flakes="1"><testcase name="polls" classname="com.acme.FlakyTest" time="0.05"><flakyFailure message="late" type="AssertionError"><stackTrace><![CDATA[late]]></stackTrace><system-out>try 1</system-out></flakyFailure></testcase><testcase name="ends" classname="com.acme.FlakyTest" time="0.01"/></testsuite>`,
  ),
  file(
    'surefire: a test that failed at each run',
    [0, 1, 0],
    `${xml}<testsuite name="com.acme.FlakyTest" time="0.2" tests="1" errors="0" skipped="0" failures="1"><testcase name="polls" classname="com.acme.FlakyTest" time="0.05"><failure message="late" type="AssertionError">late</failure><rerunFailure message="late again" type="AssertionError"><stackTrace>late again</stackTrace></rerunFailure></testcase></testsuite>`,
  ),
  file(
    'surefire: reruns and no result',
    [0, 1, 0],
    `${xml}<testsuite name="com.acme.FlakyTest" time="0.2"><testcase name="polls" classname="com.acme.FlakyTest" time="0.05"><rerunFailure message="late again" type="AssertionError"/></testcase></testsuite>`,
    /polls: late again/,
  ),
  file(
    'surefire: a JVM that crashed before its first test',
    [0, 1, 0],
    `${xml}<testsuite name="com.acme.NativeTest" time="0" tests="0" errors="1" skipped="0" failures="0"><system-err>A fatal error has been detected by the Java Runtime Environment</system-err></testsuite>`,
    /com\.acme\.NativeTest > JUnit: the report counts 0 failures and 1 errors but lists 0/,
  ),
  file(
    'surefire: counts of the last run only',
    [3, 0, 0],
    `${xml}<testsuite name="com.acme.FlakyTest" time="0.2" tests="1" errors="0" skipped="0" failures="0"><testcase name="a" classname="com.acme.FlakyTest"/><testcase name="b" classname="com.acme.FlakyTest"/><testcase name="c" classname="com.acme.FlakyTest"><flakyError type="IOException">x</flakyError></testcase></testsuite>`,
  ),
  file(
    'gradle: output of the class',
    [2, 0, 1],
    `${xml}<testsuite name="com.acme.ChatTest" tests="3" skipped="1" failures="0" errors="0" timestamp="2026-03-01T10:00:00.000Z" hostname="ci" time="0.085"><properties/><testcase name="posts()" classname="com.acme.ChatTest" time="0.05"/><testcase name="edits()" classname="com.acme.ChatTest" time="0.03"/><testcase name="pins()" classname="com.acme.ChatTest" time="0.0"><skipped/></testcase><system-out><![CDATA[started
]]></system-out><system-err><![CDATA[]]></system-err></testsuite>`,
  ),
  file(
    'gradle: a failure that has no case',
    [1, 1, 0],
    `${xml}<testsuite name="com.acme.ChatTest" tests="1" skipped="0" failures="1" errors="0" time="0.085"><testcase name="posts()" classname="com.acme.ChatTest" time="0.05"/></testsuite>`,
    /com\.acme\.ChatTest > JUnit: the report counts 1 failures and 0 errors but lists 0/,
  ),
  file(
    'gradle: skipped tests that look like passed ones',
    [2, 1, 0],
    `${xml}<testsuite name="com.acme.ChatTest" tests="2" skipped="1" failures="0" errors="0"><testcase name="posts()" classname="com.acme.ChatTest"/><testcase name="edits()" classname="com.acme.ChatTest"/></testsuite>`,
    /the report counts 1 skipped tests but lists 0/,
  ),
  file(
    'jest-junit: two files of tests',
    [1, 1, 1],
    `${xml}<testsuites name="jest tests" tests="3" failures="1" errors="0" time="1.5"><testsuite name="bot" errors="0" failures="1" skipped="0" timestamp="2026-03-01T10:00:00" time="0.9" tests="2"><testcase classname="bot starts" name="bot starts" time="0.003"></testcase><testcase classname="bot stops" name="bot stops" time="0.004"><failure>Error: expect(received).toBe(expected)</failure></testcase></testsuite><testsuite name="keys" errors="0" failures="0" skipped="1" timestamp="2026-03-01T10:00:00" time="0.6" tests="1"><testcase classname="keys rotate" name="keys rotate" time="0"><skipped/></testcase></testsuite></testsuites>`,
  ),
  file(
    'jest-junit: a file that does not run',
    [0, 1, 0],
    `${xml}<testsuites name="jest tests" tests="1" failures="0" errors="1" time="1.5"><testsuite name="undefined" errors="1" failures="0" skipped="0" time="0" tests="1"><testcase classname="Test suite failed to run" name="bot.test.js" time="0"><error>SyntaxError: Unexpected token</error></testcase></testsuite></testsuites>`,
  ),
  file(
    'jest-junit: a failure in the totals only',
    [1, 1, 0],
    `${xml}<testsuites name="jest tests" tests="1" failures="1" errors="0" time="1.5"><testsuite name="bot" errors="0" failures="0" skipped="0" time="0" tests="1"><testcase classname="bot" name="starts" time="0"/></testsuite></testsuites>`,
    /^JUnit: the report counts 1 failures and 0 errors but lists 0$/,
  ),
  file(
    'mocha-junit-reporter: a root suite and a pending test',
    [1, 1, 1],
    `${xml}<testsuites name="Mocha Tests" time="0.0130" tests="3" failures="1"><testsuite name="Root Suite" timestamp="2026-03-01T10:00:00" tests="0" time="0.0000" failures="0"></testsuite><testsuite name="bot" timestamp="2026-03-01T10:00:00" tests="3" file="/ci/test/bot.js" time="0.0130" failures="1" skipped="1"><testcase name="bot starts" time="0.0010" classname="starts"></testcase><testcase name="bot stops" time="0.0020" classname="stops"><failure message="boom" type="Error"><![CDATA[Error: boom]]></failure></testcase><testcase name="bot waits" time="0.0000" classname="waits"><skipped/></testcase></testsuite></testsuites>`,
  ),
  file(
    'mocha-junit-reporter: a hook that failed is a case beyond the count',
    [0, 1, 0],
    `${xml}<testsuites name="Mocha Tests" time="0.01" tests="0" failures="1"><testsuite name="bot" tests="1" time="0.01" failures="1"><testcase name="bot &quot;before all&quot; hook" time="0" classname="&quot;before all&quot; hook"><failure message="no db" type="Error">Error: no db</failure></testcase></testsuite></testsuites>`,
  ),
  file(
    'mocha xunit: failures are counted as errors',
    [1, 1, 1],
    `<testsuite name="Mocha Tests" tests="3" failures="0" errors="1" skipped="1" timestamp="Sun, 01 Mar 2026 10:00:00 GMT" time="0.012"><testcase classname="bot" name="starts" time="0.001"/><testcase classname="bot" name="stops" time="0.002"><failure>boom
Error: boom</failure></testcase><testcase classname="bot" name="waits" time="0"><skipped/></testcase></testsuite>`,
  ),
  file(
    'vitest: a failure and a todo',
    [1, 1, 1],
    `<?xml version="1.0" encoding="UTF-8" ?>
<testsuites name="vitest tests" tests="3" failures="1" errors="0" time="0.4">
    <testsuite name="src/bot.test.ts" timestamp="2026-03-01T10:00:00.000Z" hostname="ci" tests="3" failures="1" errors="0" skipped="1" time="0.004">
        <testcase classname="src/bot.test.ts" name="bot &gt; starts" time="0.001">
        </testcase>
        <testcase classname="src/bot.test.ts" name="bot &gt; stops" time="0.002">
            <failure message="expected 1 to be 2" type="AssertionError">
AssertionError: expected 1 to be 2
            </failure>
        </testcase>
        <testcase classname="src/bot.test.ts" name="bot &gt; waits" time="0"><skipped/></testcase>
    </testsuite>
</testsuites>`,
  ),
  file(
    'vitest: an unhandled error outside of tests',
    [1, 1, 0],
    `<testsuites name="vitest tests" tests="1" failures="0" errors="1" time="0.4"><testsuite name="src/bot.test.ts" tests="1" failures="0" errors="0" skipped="0" time="0.004"><testcase classname="src/bot.test.ts" name="starts" time="0.001"/></testsuite></testsuites>`,
    /0 failures and 1 errors/,
  ),
  file(
    'node:test: counts of direct members, an expected failure',
    [2, 1, 1],
    `<?xml version="1.0" encoding="utf-8"?>
<testsuites>
	<testcase name="plain" time="0.001158" classname="test"/>
	<testsuite name="bot" time="0.000855" disabled="0" errors="0" tests="2" failures="1" skipped="0" hostname="ci">
		<testcase name="starts" time="0.000385" classname="test"/>
		<testsuite name="deep" time="0.0004" disabled="0" errors="0" tests="2" failures="2" skipped="1" hostname="ci">
			<testcase name="stops" time="0.0003" classname="test" failure="x">
				<failure type="testCodeFailure" message="x">
Error [ERR_TEST_FAILURE]: x
				</failure>
			</testcase>
			<testcase name="known" time="0.0001" classname="test" failure="y">
				<skipped type="todo" message="true"/>
				<failure type="testCodeFailure" message="y">y</failure>
			</testcase>
		</testsuite>
	</testsuite>
	<!-- tests 4 -->
	<!-- pass 2 -->
	<!-- fail 1 -->
	<!-- cancelled 0 -->
	<!-- todo 1 -->
</testsuites>`,
  ),
  file(
    'node:test: a failure that only the totals have',
    [1, 1, 0],
    `<testsuites>
	<testcase name="plain" time="0.001158" classname="test"/>
	<!-- a note -- of a test: fail 1 -->
	<!-- tests 2 -->
	<!-- fail 0 -->
	<!-- cancelled 1 -->
</testsuites>`,
    /JUnit: file 1 counts 1 failures but lists 0/,
  ),
  file(
    'go-junit-report: a package without tests beside others',
    [1, 1, 1],
    `${xml}<testsuites tests="3" failures="1" skipped="1">
	<testsuite name="acme/bot" tests="3" failures="1" errors="0" id="0" hostname="ci" skipped="1" time="0.004" timestamp="2026-03-01T10:00:00Z">
		<properties><property name="coverage.statements.pct" value="50.00"></property></properties>
		<testcase name="TestStart" classname="acme/bot" time="0.001"></testcase>
		<testcase name="TestStop" classname="acme/bot" time="0.002"><failure message="Failed"><![CDATA[    bot_test.go:9: 1 != 2]]></failure></testcase>
		<testcase name="TestWait" classname="acme/bot" time="0.000"><skipped message="    bot_test.go:12: slow"></skipped></testcase>
	</testsuite>
	<testsuite name="acme/none" tests="0" failures="0" errors="0" id="1" hostname="ci" time="0.000"></testsuite>
</testsuites>`,
  ),
  file(
    'go-junit-report: a package that does not build',
    [0, 1, 0],
    `<testsuites tests="1" errors="1"><testsuite name="acme/hub" tests="1" failures="0" errors="1" id="0" time="0.000"><testcase name="[build failed]" classname="acme/hub" time="0.000"><error message="Build error"><![CDATA[hub.go:3: undefined: x]]></error></testcase></testsuite></testsuites>`,
  ),
  file(
    'gotestsum: a panic that ended the package',
    [1, 2, 0],
    `${xml}<testsuites tests="3" failures="1" errors="0" time="0.5">
	<testsuite tests="3" failures="1" time="0.410000" name="acme/bot" timestamp="2026-03-01T10:00:00Z">
		<properties><property name="go.version" value="go1.24 linux/amd64"></property></properties>
		<testcase classname="acme/bot" name="TestStart" time="0.000000"></testcase>
		<testcase classname="acme/bot" name="TestStop" time="0.000000"><failure message="Failed" type="">panic: x</failure></testcase>
	</testsuite>
</testsuites>`,
    /acme\/bot > JUnit: the report counts 3 tests but lists 2/,
  ),
  file(
    'gotestsum: subtests',
    [3, 0, 0],
    `${xml}<testsuites tests="3" failures="0" errors="0" time="0.5"><testsuite tests="3" failures="0" time="0.41" name="acme/bot" timestamp="2026-03-01T10:00:00Z"><testcase classname="acme/bot" name="TestKeys" time="0.2"></testcase><testcase classname="acme/bot" name="TestKeys/old" time="0.1"></testcase><testcase classname="acme/bot" name="TestKeys/new" time="0.1"></testcase></testsuite></testsuites>`,
  ),
  file(
    'phpunit: suites of suites, a data provider, a warning',
    [3, 1, 1],
    `${xml}<testsuites>
  <testsuite name="/ci/phpunit.xml" tests="5" assertions="6" errors="0" failures="1" skipped="1" time="0.02">
    <testsuite name="Unit" tests="5" assertions="6" errors="0" failures="1" skipped="1" time="0.02">
      <testsuite name="Acme\\BotTest" file="/ci/tests/BotTest.php" tests="5" assertions="6" errors="0" failures="1" skipped="1" time="0.02">
        <testcase name="testStart" file="/ci/tests/BotTest.php" line="9" class="Acme\\BotTest" classname="Acme.BotTest" assertions="2" time="0.01"/>
        <testcase name="testStop" file="/ci/tests/BotTest.php" line="14" class="Acme\\BotTest" classname="Acme.BotTest" assertions="1" time="0.01"><failure type="PHPUnit\\Framework\\ExpectationFailedException">Acme\\BotTest::testStop
Failed asserting that 2 matches expected 1.</failure></testcase>
        <testcase name="testWait" file="/ci/tests/BotTest.php" line="20" class="Acme\\BotTest" classname="Acme.BotTest" assertions="0" time="0"><skipped/></testcase>
        <testsuite name="Acme\\BotTest::testAdd" tests="2" assertions="3" errors="0" failures="0" skipped="0" time="0">
          <testcase name="testAdd with data set #0" class="Acme\\BotTest" classname="Acme.BotTest" assertions="2" time="0"/>
          <testcase name="testAdd with data set #1" class="Acme\\BotTest" classname="Acme.BotTest" assertions="1" time="0"/>
        </testsuite>
      </testsuite>
    </testsuite>
  </testsuite>
</testsuites>`,
  ),
  file(
    'phpunit: a fatal error in a nested suite is reported once',
    [1, 1, 0],
    `<testsuites><testsuite name="all" tests="2" errors="1" failures="0" skipped="0"><testsuite name="Acme\\BotTest" tests="2" errors="1" failures="0" skipped="0"><testcase name="testStart" classname="Acme.BotTest" assertions="2"/><error type="Error">Call to undefined function</error></testsuite></testsuite></testsuites>`,
    /^all > Acme\\BotTest: Call to undefined function$/,
  ),
  file(
    'rspec_junit_formatter: a pending example',
    [1, 1, 1],
    `${xml}<testsuite name="rspec" tests="3" skipped="1" failures="1" errors="0" time="0.012" timestamp="2026-03-01T10:00:00+00:00" hostname="ci">
<properties><property name="seed" value="1234"/></properties>
<testcase classname="spec.bot_spec" name="Bot starts" file="./spec/bot_spec.rb" time="0.001"></testcase>
<testcase classname="spec.bot_spec" name="Bot stops" file="./spec/bot_spec.rb" time="0.002"><failure message="expected: 1&#10;     got: 2" type="RSpec::Expectations::ExpectationNotMetError">Failure/Error: expect(2).to eq(1)</failure></testcase>
<testcase classname="spec.bot_spec" name="Bot waits" file="./spec/bot_spec.rb" time="0.000"><skipped/></testcase>
</testsuite>`,
  ),
  file(
    'rspec_junit_formatter: a report that ended in the middle and was closed',
    [1, 1, 0],
    `<testsuite name="rspec" tests="2" skipped="0" failures="0" errors="0" time="0.012"><testcase classname="spec.bot_spec" name="Bot starts" time="0.001"></testcase></testsuite>`,
    /rspec > JUnit: the report counts 2 tests but lists 1/,
  ),
  file(
    'NUnit as JUnit: namespaces as suites, an ignored test',
    [1, 1, 1],
    `<testsuites tests="3" failures="1" disabled="1" time="0.2"><testsuite name="Acme.Tests.BotTests" tests="3" errors="0" failures="1" skipped="1" time="0.2"><testcase name="Starts" assertions="1" time="0.1" classname="Acme.Tests.BotTests" status="Passed"/><testcase name="Stops" assertions="1" time="0.1" classname="Acme.Tests.BotTests" status="Failed"><failure message="Expected: 1 But was: 2">at BotTests.Stops()</failure></testcase><testcase name="Waits" assertions="0" time="0" classname="Acme.Tests.BotTests" status="Skipped"><skipped/></testcase></testsuite></testsuites>`,
  ),
  file(
    'NUnit as JUnit: a failure in an attribute only',
    [1, 1, 0],
    `<testsuites><testsuite name="Acme.Tests.BotTests"><testcase name="Starts" classname="Acme.Tests.BotTests" result="Passed"/><testcase name="Stops" classname="Acme.Tests.BotTests" result="Failed"/></testsuite></testsuites>`,
    /Stops: result: Failed/,
  ),
  file(
    'ctest: run, fail, notrun, disabled',
    [1, 1, 2],
    `${xml}<testsuite name="Linux-c++" tests="4" failures="1" disabled="1" skipped="1" hostname="" time="1" timestamp="2026-03-01T10:00:00">
	<testcase name="start" classname="start" time="0.01" status="run"><system-out>ok</system-out></testcase>
	<testcase name="stop" classname="stop" time="0.02" status="fail"><failure message="Failed"/><properties/><system-out>1 != 2</system-out></testcase>
	<testcase name="wait" classname="wait" time="0" status="notrun"><skipped message="SKIP_RETURN_CODE=77"/><system-out></system-out></testcase>
	<testcase name="old" classname="old" time="0" status="disabled"><system-out>Disabled</system-out></testcase>
</testsuite>`,
  ),
  file(
    'googletest: a disabled and a skipped test',
    [1, 1, 2],
    `${xml}<testsuites tests="4" failures="1" disabled="1" errors="0" time="0.01" timestamp="2026-03-01T10:00:00.000" name="AllTests">
  <testsuite name="Bot" tests="4" failures="1" disabled="1" skipped="1" errors="0" time="0.01">
    <testcase name="Starts" file="bot_test.cc" line="3" status="run" result="completed" time="0." classname="Bot" />
    <testcase name="Stops" file="bot_test.cc" line="7" status="run" result="completed" time="0.001" classname="Bot"><failure message="bot_test.cc:8&#x0A;Expected equality" type=""><![CDATA[bot_test.cc:8]]></failure></testcase>
    <testcase name="Waits" file="bot_test.cc" line="11" status="run" result="skipped" time="0." classname="Bot"><skipped message="bot_test.cc:12&#x0A;"/></testcase>
    <testcase name="DISABLED_Old" file="bot_test.cc" line="15" status="notrun" result="suppressed" time="0." classname="Bot" />
  </testsuite>
</testsuites>`,
  ),
  file(
    'bazel: a test that was interrupted',
    [1, 1, 0],
    `<testsuites><testsuite name="BotTest" tests="2" failures="0"><testcase name="starts" status="run" result="completed" classname="BotTest"/><testcase name="stops" status="run" result="interrupted" classname="BotTest"/></testsuite></testsuites>`,
    /stops: result: interrupted/,
  ),
  file(
    'cargo-nextest: a flaky test and one that failed twice',
    [2, 1, 0],
    `${xml}<testsuites name="nextest-run" tests="3" failures="1" errors="0" uuid="5d1b6c5e-0000-4000-8000-000000000000" timestamp="2026-03-01T10:00:00.000+00:00" time="0.6">
    <testsuite name="bot" tests="3" disabled="0" errors="0" failures="1">
        <testcase name="tests::starts" classname="bot" timestamp="2026-03-01T10:00:00.000+00:00" time="0.01"></testcase>
        <testcase name="tests::polls" classname="bot" time="0.02"><flakyFailure timestamp="2026-03-01T10:00:00.000+00:00" time="0.01" message="late" type="test failure"><system-out>1</system-out></flakyFailure></testcase>
        <testcase name="tests::stops" classname="bot" time="0.02"><failure message="thread panicked" type="test failure with exit code 101">thread panicked</failure><rerunFailure time="0.01" message="thread panicked" type="test failure with exit code 101"/></testcase>
    </testsuite>
</testsuites>`,
  ),
  file(
    'libtest: ignored tests are counted and have no case',
    [2, 0, 0],
    `<?xml version="1.0" encoding="UTF-8"?><testsuites><testsuite name="test" package="test" id="0" errors="0" failures="0" tests="3" skipped="1" ><testcase classname="tests" name="starts" time="0.001"/><testcase classname="tests" name="stops" time="0.001"/><system-out/><system-err/></testsuite></testsuites>`,
  ),
  file(
    'playwright: projects as suites',
    [1, 1, 1],
    `<testsuites id="" name="" tests="3" failures="1" skipped="1" errors="0" time="3.1">
<testsuite name="bot.spec.ts" timestamp="2026-03-01T10:00:00.000Z" hostname="chromium" tests="3" failures="1" skipped="1" time="2.9" errors="0">
<testcase name="bot › starts" classname="bot.spec.ts" time="1.2">
</testcase>
<testcase name="bot › stops" classname="bot.spec.ts" time="1.7"><failure message="bot.spec.ts:9:5 stops" type="FAILURE"><![CDATA[  [chromium] › bot.spec.ts:9:5 › bot › stops
]]></failure><system-out><![CDATA[
[[ATTACHMENT|../test-results/bot/trace.zip]]
]]></system-out></testcase>
<testcase name="bot › waits" classname="bot.spec.ts" time="0"><skipped></skipped></testcase>
</testsuite>
</testsuites>`,
  ),
  file(
    'bats: two files',
    [2, 1, 1],
    `${xml}<testsuites time="0.2">
<testsuite name="bot.bats" tests="3" failures="1" errors="0" skipped="1" time="0.1" timestamp="2026-03-01T10:00:00" hostname="ci">
    <testcase classname="bot.bats" name="starts" time="0.01" />
    <testcase classname="bot.bats" name="stops" time="0.01"><failure type="failure">(in test file bot.bats, line 9) \`false&#39; failed</failure></testcase>
    <testcase classname="bot.bats" name="waits" time="0"><skipped>later</skipped></testcase>
</testsuite>
<testsuite name="keys.bats" tests="1" failures="0" errors="0" skipped="0" time="0.1" timestamp="2026-03-01T10:00:00" hostname="ci">
    <testcase classname="keys.bats" name="rotate" time="0.01" />
</testsuite>
</testsuites>`,
  ),
  file(
    'karma: a browser that disconnected',
    [1, 1, 0],
    `<?xml version="1.0"?><testsuite name="Chrome Headless" package="" timestamp="2026-03-01T10:00:00" id="0" hostname="ci" tests="1" errors="1" failures="0" time="0.1"><properties><property name="browser.fullName" value="Chrome"/></properties><testcase name="bot starts" time="0.01" classname="bot"/><system-out><![CDATA[]]></system-out><system-err/></testsuite>`,
    /0 failures and 1 errors but lists 0/,
  ),
  file(
    'Catch2: tests and failures are assertions',
    [1, 1, 0],
    `${xml}<testsuites><testsuite name="bot_tests" errors="0" failures="2" skipped="0" tests="25" hostname="tbd" time="0.001" timestamp="2026-03-01T10:00:00Z"><properties><property name="random-seed" value="1"/></properties><testcase classname="bot_tests.global" name="starts" time="0.000" status="run"/><testcase classname="bot_tests.global" name="stops" time="0.000" status="run"><failure message="1 == 2" type="CHECK">FAILED</failure><failure message="3 == 4" type="CHECK">FAILED</failure></testcase></testsuite></testsuites>`,
  ),
  file(
    'doctest: tests are assertions',
    [1, 0, 0],
    `${xml}<testsuites><testsuite name="bot_tests" errors="0" failures="0" tests="12" time="0.01" timestamp="2026-03-01T10:00:00Z" doctest_version="2.4.11"><testcase classname="bot.cpp" name="starts" time="0.01" status="run"/></testsuite></testsuites>`,
  ),
  file(
    'Pester: statuses as attributes',
    [1, 1, 2],
    `<testsuites name="Pester" tests="4" errors="0" failures="1" disabled="1" time="0.3"><testsuite name="Bot.Tests.ps1" tests="4" errors="0" failures="1" hostname="CI" id="0" skipped="1" disabled="1" package="Bot.Tests.ps1" time="0.2"><testcase name="Bot.starts" status="Passed" classname="Bot.Tests.ps1" assertions="0" time="0.01"/><testcase name="Bot.stops" status="Failed" classname="Bot.Tests.ps1" assertions="0" time="0.01"><failure message="Expected 1">at Bot.Tests.ps1:9</failure></testcase><testcase name="Bot.waits" status="Skipped" classname="Bot.Tests.ps1" assertions="0" time="0"><skipped message=""/></testcase><testcase name="Bot.old" status="NotRun" classname="Bot.Tests.ps1" assertions="0" time="0"/></testsuite></testsuites>`,
  ),
  file(
    'behave: an undefined step',
    [1, 1, 1],
    `<testsuite name="bot.Bot" tests="3" errors="0" failures="1" skipped="1" time="0.1"><testcase classname="bot.Bot" name="starts" status="passed" time="0.1"><system-out><![CDATA[]]></system-out></testcase><testcase classname="bot.Bot" name="stops" status="undefined" time="0"><failure type="undefined" message="No matching step"/></testcase><testcase classname="bot.Bot" name="waits" status="untested" time="0"><skipped/></testcase></testsuite>`,
  ),
  file(
    'ginkgo: a test that timed out',
    [1, 1, 1],
    `<testsuites tests="3" disabled="1" errors="1" failures="0" time="1"><testsuite name="Bot Suite" package="/ci/bot" tests="3" disabled="1" skipped="0" errors="1" failures="0" time="1" timestamp="2026-03-01T10:00:00"><testcase name="[It] starts" classname="Bot Suite" status="passed" time="0.1"></testcase><testcase name="[It] stops" classname="Bot Suite" status="timedout" time="1"><error message="A spec timeout occurred" type="timedout">x</error></testcase><testcase name="[It] waits" classname="Bot Suite" status="pending" time="0"><skipped message="pending"></skipped></testcase></testsuite></testsuites>`,
  ),
  file(
    'TestNG: an ignored test',
    [1, 0, 1],
    `<testsuite hostname="ci" ignored="1" name="com.acme.BotTest" tests="1" failures="0" timestamp="1 Mar 2026" time="0.1" errors="0"><testcase name="starts" time="0.1" classname="com.acme.BotTest"/><testcase name="waits" time="0" classname="com.acme.BotTest"><ignored/></testcase></testsuite>`,
  ),
  file(
    'nose: a count named skip',
    [1, 0, 1],
    `${xml}<testsuite name="nosetests" tests="2" errors="0" failures="0" skip="1"><testcase classname="test_bot" name="test_start" time="0.001"></testcase><testcase classname="test_bot" name="test_wait" time="0"><skipped type="unittest.case.SkipTest" message="slow"></skipped></testcase></testsuite>`,
  ),
  file(
    'ant: a class that can not be set up',
    [1, 1, 0],
    `${xml}<testsuite errors="1" failures="0" hostname="ci" name="com.acme.BotTest" skipped="0" tests="1" time="0.1" timestamp="2026-03-01T10:00:00"><properties/><testcase classname="com.acme.BotTest" name="starts" time="0"/><error message="no database" type="java.sql.SQLException">java.sql.SQLException: no database</error></testsuite>`,
  ),
  file(
    'cypress: a spec after another, with thousands',
    [1, 0, 0],
    `<testsuites name="Mocha Tests" time="1,204.5" tests="1" failures="0"><testsuite name="bot" tests="1" failures="0" time="1,204.5"><testcase name="bot starts" time="1,204.5" classname="starts"/></testsuite></testsuites>`,
  ),
]

void t.test(
  `JUnit report: the counts of ${files.length} files of many tools equal those counted by hand`,
  async (t) => {
    for (const { file, text, error, ...counts } of files) {
      const report = await junit(text)
      const { passed, failed, skipped } = summaryOf(report)
      t.strictSame({ passed, failed, skipped }, counts, file, { results: report.results })
      if (error) t.match(errors(report), error, `${file}: the reason`)
      t.strictSame(await junit(text, 5), report, `${file}: the same for any chunks`)
    }
  },
)

void t.test('JUnit report: counts as failed without evidence of a pass', async (t) => {
  const one = '<testcase name="a"/>'
  const cases: [what: string, text: string, error: RegExp][] = [
    ['no suite', '<testsuites/>', /JUnit: file 1 has no tests/],
    ['an empty suite', '<testsuites><testsuite name="x"></testsuite></testsuites>', /JUnit: file 1 has no tests/],
    ['a suite that counts no tests', '<testsuite tests="0" failures="0"/>', /JUnit: no tests are reported/],
    ['output only', '<testsuite name="x"><system-err>Segmentation fault</system-err></testsuite>', /has no tests/],
    ['tests and no case', '<testsuite name="x" tests="7"/>', /x > JUnit: the report counts 7 tests but lists 0/],
    ['an error of a suite', '<testsuite name="x"><error message="no db"/></testsuite>', /x: no db/],
    ['a failure of the root', `<testsuites><failure message="no db"/><testsuite>${one}</testsuite></testsuites>`, /no db/],
    ['failures, one of two', `<testsuite failures="2"><testcase name="a"><failure/></testcase></testsuite>`, /counts 2 failures/],
    ['a count of the root', `<testsuites tests="2"><testsuite tests="1">${one}</testsuite></testsuites>`, /counts 2 tests/],
    ['failures that are not a number', `<testsuite failures="some">${one}</testsuite>`, /counts some failures/],
    ['tests that are not a number', `<testsuite tests="NaN">${one}</testsuite>`, /counts NaN tests/],
    ['disabled tests', `<testsuite tests="1" disabled="1">${one}</testsuite>`, /counts 1 skipped tests but lists 0/],
    ['a status', '<testsuite><testcase name="a" status="error"/></testsuite>', /a: status: error/],
    ['an unknown status', '<testsuite><testcase name="a" status="exploded"/></testsuite>', /status: exploded/],
    ['a status of an object', '<testsuite><testcase name="a" status="constructor"/></testsuite>', /status: constructor/],
    ['a nested suite', `<testsuite name="x"><testsuite name="y" errors="1">${one}</testsuite></testsuite>`, /x > y > JUnit/],
  ] // prettier-ignore
  for (const [what, text, error] of cases) {
    const report = await junit(text)
    t.ok(summaryOf(report).failed > 0, what)
    t.match(errors(report), error, what)
  }
  const beside = await read([`<testsuite tests="1">${one}</testsuite>`, '<testsuite name="none" tests="0"/>'])
  t.equal(summaryOf(beside).failed, 0, 'a file with a count of no tests is accepted beside others')
  const shell = await read([`<testsuite tests="1">${one}</testsuite>`, '<testsuites/>'])
  t.match(errors(shell), /JUnit: file 2 has no tests/, 'a file without any suite')
})

void t.test('JUnit report: reads other encodings, text around the XML and characters that XML forbids', async (t) => {
  const of = (name: string, header = ''): string => `${header}<testsuite><testcase name="${name}"/></testsuite>`
  const declared = (encoding: string): string => `<?xml version="1.0" encoding="${encoding}"?>\n`
  const latin = (text: string): Buffer => Buffer.from(text, 'latin1')
  const swapped = Buffer.from(`\ufeff${of('é')}`, 'utf16le').swap16()
  const cases: [what: string, bytes: Buffer | string, name: string][] = [
    ['a byte that is not UTF-8', latin(of('caf\xe9 \xff', declared('UTF-8'))), 'caf\ufffd \ufffd'],
    ['the same without a declaration', latin(of('caf\xe9')), 'caf\ufffd'],
    ['UTF-8 that says it is UTF-16', of('é 😀', declared('utf-16')), 'é 😀'],
    ['UTF-8 with a BOM that says it is Latin 1', `\ufeff${of('é', declared('ISO-8859-1'))}`, 'é'],
    ['UTF-8 that says it is Latin 1', of('é 😀', declared('ISO-8859-1')), 'é 😀'],
    ['a BOM and a bad byte', Buffer.concat([Buffer.from('\ufeff'), latin(of('\xe9', declared('latin1')))]), '\ufffd'],
    ['Latin 1', latin(of('\xe9\xfc', declared('ISO-8859-1'))), 'éü'],
    ['Windows 1252', latin(of('\x80 \x93x\x94 \xe9', declared('windows-1252'))), '€ “x” é'],
    ['Windows 1251', latin(of('\xf2\xe5\xf1\xf2', declared('windows-1251'))), 'тест'],
    ['Shift JIS', latin(of('\x83e\x83X\x83g', declared('Shift_JIS'))), 'テスト'],
    ['UTF-16 with its BOM', Buffer.from(`\ufeff${of('é', declared('UTF-16'))}`, 'utf16le'), 'é'],
    ['UTF-16 with its BOM that says it is UTF-8', Buffer.from(`\ufeff${of('é', declared('UTF-8'))}`, 'utf16le'), 'é'],
    ['UTF-16, big end first', swapped, 'é'],
    ['UTF-16 without a BOM', Buffer.from(of('é', declared('UTF-16')), 'utf16le'), 'é'],
    ['a line before the declaration', `> bot@1.0.0 test\n> node run.js && <report>\n\n${of('a', declared('UTF-8'))}`, 'a'],
    ['lines before the root', `Running 3 tests…\n\n${of('a')}`, 'a'],
    ['an encoding after such a line', latin(`> test\n${of('\xe9', declared('latin1'))}`), 'é'],
    ['lines after the root', `${of('a')}\n\nDone in 1 < 2 s & more\n`, 'a'],
    ['colours', of('\u001b[31mred\u001b[0m \u0001'), '\u001b[31mred\u001b[0m \u0001'],
    ['colours as references', of('&#27;[31mred &#x1b;[0m'), '\u001b[31mred \u001b[0m'],
    ['U+0000', of('a\0b'), 'a\ufffdb'],
    ['U+0000 as a reference', of('a&#0;b'), 'a\ufffdb'],
    ['U+FFFE', of('a\ufffeb'), 'a\ufffeb'],
    ['halves of a character as references', of('&#55357;&#56832;'), '😀'],
    ['half a character', of('a&#xD83D;b'), 'a\ufffdb'],
    ['an & that is no reference', of('R&D? a=1&b=2 & c &; &#; &#x;'), 'R&D? a=1&b=2 & c &; &#; &#x;'],
    ['a reference that HTML has', of('a&nbsp;b'), 'a&nbsp;b'],
    ['a < that begins nothing', of('1 < 2 <3'), '1 < 2 <3'],
    ['references that XML has', of('&lt;&amp;&gt;&quot;&apos;&#233;'), '<&>"\'é'],
  ] // prettier-ignore
  for (const [what, bytes, name] of cases)
    for (const size of [1 << 16, 1, 3]) {
      const { results } = await junit(bytes, size)
      t.strictSame(results, [{ name, status: 'passed' }], `${what}, in chunks of ${size} bytes`)
    }
  const text = 'a & b <![CDATA[&amp; & < ]]>]]> &#27; x <!-- & -- -->&lt;'
  const printed = `<testsuite><testcase name="a"><system-out>${text}</system-out></testcase></testsuite>`
  for (const size of [1 << 16, 1, 2, 3, 5])
    t.match(
      (await junit(printed, size)).log,
      '\na & b &amp; & < ]]> \u001b x <',
      `text and CDATA, in chunks of ${size} bytes`,
    )
  const hidden = '<testsuite><testcase name="a & b"/><testcase name="c"><failure message="x;"/></testcase></testsuite>'
  t.strictSame(
    (await junit(hidden)).results.map(({ status }) => status),
    ['passed', 'failed'],
    'a lone & hides no test',
  )
})

void t.test('JUnit report: refuses a file that could hide a test or do harm', async (t) => {
  const deep = `${'<testsuite>'.repeat(200)}<testcase name="a"/>${'</testsuite>'.repeat(200)}`
  const declares = '<!DOCTYPE testsuite [<!ENTITY x "y"><!ENTITY f SYSTEM "file:///etc/passwd">]>'
  const cases: [what: string, text: string, detail: RegExp][] = [
    ['a second report after it', '<testsuite tests="0"/><testsuite><testcase name="a"/></testsuite>', /one root/],
    ['a second file after it', `${xml}<testsuite tests="0"/>\n${xml}<testsuite/>`, /XML declaration/],
    ['a file that is cut short', '<testsuite><testcase name="a"/>', /unclosed tag/],
    ['a file that is cut in a reference', '<testsuite><testcase name="a &amp', /unexpected end|unclosed/],
    ['tags that do not fit', '<testsuite><testcase name="a"></testsuite></testcase>', /unexpected close tag|unmatched/],
    ['an entity that is declared', `${declares}<testsuite><testcase name="&x;"/></testsuite>`, /undefined entity/],
    ['an entity of a file', `${declares}<testsuite><testcase name="&f;"/></testsuite>`, /undefined entity/],
    ['the same after a line', `log\n${declares}<testsuite><testcase name="&f;"/></testsuite>`, /undefined entity/],
    ['suites nested too deep', deep, /nested too deep/],
    ['more than 1 MiB before it', `${'x'.repeat(1_100_000)}<testsuite><testcase name="a"/></testsuite>`, /no <testsuites>/],
    ['another root', '<?xml version="1.0"?><html><testsuite/></html>', /begins with <html>/],
    ['an unknown encoding', '<?xml version="1.0" encoding="klingon"?><testsuite/>', /klingon is not supported/],
  ] // prettier-ignore
  for (const [what, text, detail] of cases) await t.rejects(junit(text), { code: 'bad_request', detail }, what)
})

const runOf = async (t: Test) => {
  const { instance } = await startDeck(t)
  const { id, number } = await makeMission(instance)
  return {
    env: { DECK_URL: instance.url, DECK_TOKEN: rafael },
    mission: String(number),
    latest: async () => (await instance.request('GET', `/api/missions/${id}/tests/latest`, alice)).json,
  }
}

void t.test('JUnit report: a run whose counts are not met is stored as failed, with the reason', async (t) => {
  const { env, mission, latest } = await runOf(t)
  await writeFile(
    join(folder, 'counts.xml'),
    '<testsuites><testsuite name="bot" tests="2" failures="1"><testcase classname="bot" name="starts"/></testsuite></testsuites>',
  )
  const failed = await deck(t, ['report', mission, '--junit', 'counts.xml', '--fail'], env)
  t.match(failed, { code: 1, out: /failed: 1 passed, 1 failed/, err: /bot > JUnit/ })
  const loose = await deck(t, ['report', mission, '--junit', 'counts.xml', '--no-counts', '--json'], env)
  t.match(JSON.parse(loose.out), { status: 'failed', summary: { failed: 1 } }, 'a missing failure still counts')
  await writeFile(
    join(folder, 'subtests.xml'),
    '<testsuite name="pytest" tests="4" failures="0" errors="0" skipped="0"><testcase name="a"/></testsuite>',
  )
  const subtests = await deck(t, ['report', mission, '--junit', 'subtests.xml', '--no-counts', '--json'], env)
  t.match(JSON.parse(subtests.out), { status: 'passed', summary: { passed: 1, failed: 0 } }, 'tests are not compared')
  await deck(t, ['report', mission, '--junit', 'counts.xml'], env)
  t.match(await latest(), {
    status: 'failed',
    results: [
      { name: 'bot > starts', status: 'passed' },
      {
        name: 'bot > JUnit',
        status: 'failed',
        error: 'the report counts 2 tests but lists 1, 1 failures and 0 errors but lists 0',
      },
    ],
  })
})
