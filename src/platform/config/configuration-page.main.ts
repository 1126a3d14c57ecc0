import { configurationPage } from './configuration-page.js';

process.stdout.write(configurationPage());
