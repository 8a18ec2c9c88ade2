// Compiled schemas: whether a value is valid and, in a few words, why not. The reason is cheap for any input: TypeBox's errors are
// computed for one member only, and never for an object or array, which may have a million errors.
import { Compile, type TSchema } from './typebox.ts'

export type Check = {
  fits(value: unknown): boolean
  /** Returns why a value is invalid: the name of a member (after `path` and a dot, if given) and its fault. */
  why(value: unknown, path?: string): string
}

export const makeCheck = (schema: TSchema): Check => {
  const whole = Compile(schema)
  const { properties = {}, required = [] } = schema as TSchema & {
    properties?: Record<string, TSchema>
    required?: string[]
  }
  const members = Object.entries(properties).map(([name, member]) => ({ name, compiled: Compile(member) }))
  return {
    fits: (value) => whole.Check(value),
    why(value, path) {
      const named = (name: string, what: string): string => `${path === undefined ? '' : `${path}.`}${name} ${what}`
      if (typeof value === 'object' && value !== null && !Array.isArray(value))
        for (const { name, compiled } of members) {
          const member = (value as Record<string, unknown>)[name]
          if (member === undefined) {
            if (required.includes(name)) return named(name, 'is missing')
          } else if (!compiled.Check(member)) {
            const [error] = typeof member === 'object' && member !== null ? [] : compiled.Errors(member)
            return named(name, error?.message ?? 'is not valid')
          }
        }
      return `${path ?? 'frame'} is not valid`
    },
  }
}
