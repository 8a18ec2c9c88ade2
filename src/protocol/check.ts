// Compiled schemas: whether a value fits and, in a few words, why not. The words cost little whatever was sent: TypeBox's own
// errors are asked for of one member only, and not of one with parts, of which there may be a million.
import { Compile, type TSchema } from './typebox.ts'

export type Check = {
  fits(value: unknown): boolean
  /** Why it doesn't fit: the name of a member (dots before it, if `path` is given) and what is wrong with it. */
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
