// TypeBox, as all of us import it: the build puts it into this one file (npm run compile), since its 700 modules take 0.2 s to load and
// the one takes 0.02. Nothing is added.
export { Type as default } from 'typebox'
export type { Static, TObject, TProperties, TSchema } from 'typebox'
export { Compile } from 'typebox/compile'
